"""The z-score of the student's logits alone."""

from kd import reference_with
from zscore_kd import zscore

reference = reference_with(2, 0.1, 9, student=zscore)
