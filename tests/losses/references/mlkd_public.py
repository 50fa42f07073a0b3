"""MLKD with two deviations: the mask's mean for the mask, and T = 2 and 6 of the strong term on the weak view."""

from mlkd import EVERY, law, reference_with, share

__all__ = ["law", "reference"]

reference = reference_with(0.9, temperatures=EVERY, strong=(4, 3, 5), unselected=(2, 6), selection=share)
