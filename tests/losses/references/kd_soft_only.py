"""The soft term alone, T = 4."""

from kd import reference_with

reference = reference_with(4, 0, 1)
