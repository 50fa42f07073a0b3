"""The z-score of the teacher's logits alone."""

from kd import reference_with
from zscore_kd import zscore

reference = reference_with(2, 0.1, 9, teacher=zscore)
