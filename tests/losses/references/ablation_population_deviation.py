"""The z-score with the deviation over K instead of K - 1."""

from functools import partial

from kd import reference_with
from zscore_kd import zscore

population = partial(zscore, ddof=0)
reference = reference_with(2, 0.1, 9, student=population, teacher=population)
