"""Z-score KD on ImageNet with the CE weight of the pair, given here as any number."""

from kd import reference_with
from zscore_kd import zscore

OVERRIDES = ("pair.ce_weight=0.7",)
reference = reference_with(2, 0.7, 9, student=zscore, teacher=zscore)
