"""Training on smoothed labels: a control without a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.smoothing import smoothed_cross_entropy
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.objective import Objective

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class LabelSmoothing(Objective):
    """`ce`: cross-entropy with the labels smoothed by `smoothing`, times `ce_weight` (> 0). No teacher.

    "Rethinking the Inception Architecture" (Szegedy et al. 2016, arXiv 1512.00567), in the form of
    `distill.losses.smoothing.smoothed_cross_entropy`. `smoothing` 0 is plain cross-entropy.

    Raises ValueError where `smoothing` is not in 0..1 or `ce_weight` is negative, zero or not finite.
    """

    needs_teacher = False

    def __init__(self, *, smoothing: float, ce_weight: float = 1.0) -> None:
        super().__init__()
        faults = weight_faults(ce_weight=ce_weight)
        if not 0 <= smoothing < 1:
            faults.append(f"smoothing must be >= 0 and < 1, got {smoothing}: set loss.smoothing, e.g. to 0.1")
        refuse(faults)
        self.smoothing = smoothing
        self.ce_weight = ce_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; teacher and progress are not read."""
        smoothed = smoothed_cross_entropy(student.logits, batch.labels, smoothing=self.smoothing)
        return {"ce": self.ce_weight * smoothed}
