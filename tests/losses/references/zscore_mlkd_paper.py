"""MLKD between z-scores with the base temperature and the weight of the pair, given here as any two numbers."""

from zscore_mlkd import law, of_pair

__all__ = ["law", "reference"]

OVERRIDES = ("pair.zscore_mlkd_temperature=4", "pair.zscore_mlkd_weight=6")
reference = of_pair(4, 6)
