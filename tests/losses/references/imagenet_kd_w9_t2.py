"""Plain KD with the numbers of Z-score KD on ImageNet; the CE weight of the pair is given here as any number."""

from kd import reference_with

OVERRIDES = ("pair.ce_weight=0.7",)
reference = reference_with(2, 0.7, 9)
