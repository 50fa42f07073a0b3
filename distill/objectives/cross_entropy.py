"""Training on labels alone: teachers and baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.objective import Objective

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class CrossEntropy(Objective):
    """`ce`: cross-entropy of the student's raw logits with the labels, times `ce_weight` (> 0).

    Raises ValueError where `ce_weight` is negative, zero or not finite.
    """

    needs_teacher = False

    def __init__(self, *, ce_weight: float = 1.0) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight))
        self.ce_weight = ce_weight

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The one term, `ce`; teacher and progress are not read."""
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels)}
