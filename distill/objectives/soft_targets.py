"""Labels plus a teacher's softened logits: KD, Z-score KD and their ablations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class SoftTargets(Objective):
    """`ce` + `kd`: ce_weight * CE(student, labels) + kd_weight * divergence(student, teacher, temperature).

    `divergence` is a function of `distill.losses.logit` with a temperature, T^2 inside. CE always sees the
    raw logits, whatever the divergence does to its own. No gradient reaches the teacher.

    Raises ValueError where `temperature` <= 0, a weight is negative, both are zero or a number is not finite.
    """

    def __init__(
        self, *, divergence: Callable[..., Tensor], temperature: float, ce_weight: float, kd_weight: float
    ) -> None:
        super().__init__()
        refuse([*temperature_faults(temperature), *weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)])
        self.divergence = divergence
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only where its weight is positive; progress is not read."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if self.kd_weight > 0:
            divergence = self.divergence(student.logits, teacher_logits(teacher), temperature=self.temperature)
            terms["kd"] = self.kd_weight * divergence
        return terms
