"""Training on labels alone, hard or smoothed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.checks import refuse, weight_faults
from distill.losses.objective import Objective, smoothed_cross_entropy

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class CrossEntropy(Objective):
    """`ce`: cross-entropy of the student's raw logits with the labels, times `ce_weight` (> 0).

    Raises ValueError if `ce_weight` is negative, zero or not finite.
    """

    family = "ce"
    reads = ()
    needs_teacher = False

    def __init__(self, *, ce_weight: float = 1.0) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight))
        self.ce_weight = ce_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; `teacher` and `progress` are unused."""
        return self.label_term(student, batch)


class LabelSmoothing(Objective):
    """`ce`: cross-entropy with the labels smoothed by `smoothing`, times `ce_weight` (> 0). No teacher.

    "Rethinking the Inception Architecture" (Szegedy et al. 2016, arXiv 1512.00567), in the form of
    `smoothed_cross_entropy`. `smoothing` 0 is plain cross-entropy. A recipe's label smoothing acts on what this leaves.

    Raises ValueError if `smoothing` is not in 0..1 or `ce_weight` is negative, zero or not finite.
    """

    reads = ()
    needs_teacher = False

    def __init__(self, *, smoothing: float, ce_weight: float = 1.0) -> None:
        super().__init__()
        faults = weight_faults(ce_weight=ce_weight)
        if not 0 <= smoothing < 1:
            faults.append(f"smoothing must be >= 0 and < 1, got {smoothing}: set loss.smoothing, e.g. to 0.1")
        refuse(faults)
        self.smoothing = smoothing
        self.ce_weight = ce_weight

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Smoothed by this loss, and then by the recipe."""
        smoothing = self.smoothing + self.label_smoothing - self.smoothing * self.label_smoothing
        return smoothed_cross_entropy(logits, labels, smoothing=smoothing)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; `teacher` and `progress` are unused."""
        return self.label_term(student, batch)
