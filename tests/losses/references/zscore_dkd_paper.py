"""DKD between z-scores with the numbers of the pair, given here as any three."""

from dkd import reference_with
from zscore_kd import zscore

OVERRIDES = (
    "pair.zscore_dkd_temperature=3",
    "pair.zscore_dkd_target_weight=18",
    "pair.zscore_dkd_nontarget_weight=36",
)
reference = reference_with(3, 18, 36, change=zscore)
