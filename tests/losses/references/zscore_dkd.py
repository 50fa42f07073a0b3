"""DKD between z-scores at T = 2; the weight 9 multiplies alpha 1 and beta 8."""

from dkd import reference_with
from zscore_kd import zscore

reference = reference_with(2, 9 * 1, 9 * 8, change=zscore)
