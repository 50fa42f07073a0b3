"""Z-score KD with the temperature and the weight of the pair, given here as any two numbers."""

from kd import reference_with
from zscore_kd import zscore

OVERRIDES = ("pair.zscore_temperature=3", "pair.zscore_weight=12")
reference = reference_with(3, 0.1, 12, student=zscore, teacher=zscore)
