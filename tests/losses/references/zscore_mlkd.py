"""The public form of MLKD at temperatures (2, 3, 5, 2, 6) and weight 9, z-scores at the instance level alone."""

from mlkd import law, reference_with, share
from zscore_kd import zscore

__all__ = ["law", "of_pair", "reference"]


def of_pair(temperature, weight):
    """The base temperature and the weight of a pair."""
    return reference_with(
        weight,
        temperatures=(temperature, 3, 5, 2, 6),
        strong=(temperature, 3, 5),
        unselected=(2, 6),
        selection=share,
        change=zscore,
    )


reference = of_pair(2, 9)
