"""Huang 2022: CE + 2 T^2 mean_i (1 - rho of sample i's classes) + 2 T^2 mean_k (1 - rho of class k's samples), T = 4.

rho is Pearson's correlation of softened probabilities; 1e-8 is added to the product of the norms.
"""

import numpy as np
import pytest
from ce import cross_entropy, log_softmax
from kd import unchanged


def distance(student, teacher):
    """The mean over rows of 1 - rho."""
    total = 0.0
    for q, p in zip(student, teacher, strict=True):
        q, p = q - q.mean(), p - p.mean()
        total += 1 - (q * p).sum() / (np.sqrt((q**2).sum()) * np.sqrt((p**2).sum()) + 1e-8)
    return total / len(student)


def reference_with(temperature, *, change=unchanged):
    """A reference with this temperature; `change` is applied to the logits of both sides."""

    def reference(case):
        q, p = (np.exp(log_softmax(change(side.logits.numpy()) / temperature)) for side in (case.student, case.teacher))
        return {
            "ce": cross_entropy(case),
            "inter": 2 * temperature**2 * distance(q, p),
            "intra": 2 * temperature**2 * distance(q.T, p.T),
        }

    return reference


def law(single, doubled):
    """Correlations do not see repetition, but for the 1e-8 beside their small norms."""
    assert doubled == pytest.approx(single, rel=1e-3)


reference = reference_with(4)
