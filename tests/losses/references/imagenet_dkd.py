"""DKD on ImageNet with the weights of the pair, given here as any two numbers."""

from dkd import reference_with

OVERRIDES = ("pair.dkd_target_weight=2", "pair.dkd_nontarget_weight=5")
reference = reference_with(1, 2, 5, ramp_epochs=1)
