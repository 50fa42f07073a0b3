"""KD on ImageNet with the CE weight of the pair, given here as any number."""

from kd import reference_with

OVERRIDES = ("pair.ce_weight=0.7",)
reference = reference_with(1, 0.7, 0.5)
