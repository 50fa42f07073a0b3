"""DIST between z-scores at T = 2."""

from dist import law, reference_with
from zscore_kd import zscore

__all__ = ["law", "reference"]

reference = reference_with(2, change=zscore)
