"""Labels plus regression on a teacher's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class LogitRegression(Objective):
    """`ce` + `kd`: ce_weight * CE(student, labels) + kd_weight * distance(student logits, teacher logits).

    `distance` is a function of `distill.losses.logit` without a temperature, such as `logit_mse`. No gradient
    reaches the teacher.

    Raises ValueError where a weight is negative or not finite, or both are zero.
    """

    def __init__(self, *, distance: Callable[..., Tensor], ce_weight: float, kd_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, kd_weight=kd_weight))
        self.distance = distance
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only where its weight is positive; progress is not read."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if self.kd_weight > 0:
            terms["kd"] = self.kd_weight * self.distance(student.logits, teacher_logits(teacher))
        return terms
