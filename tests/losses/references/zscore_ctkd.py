"""CTKD between z-scores: 0.1 CE + 9 T^2 KL at T = 2 + 40 / (1 + exp(-g))."""

from ctkd import ADVERSARIAL, reference_with
from zscore_kd import zscore

__all__ = ["ADVERSARIAL", "reference"]

reference = reference_with(2, 40, 9, change=zscore)
