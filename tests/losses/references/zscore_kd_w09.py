"""Z-score KD at T = 2, weights 0.1 and 0.9."""

from kd import reference_with
from zscore_kd import zscore

reference = reference_with(2, 0.1, 0.9, student=zscore, teacher=zscore)
