"""Labels plus weighted soft labels (WSLD)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy
from distill.losses.weighted import weighted_soft_labels
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class WeightedSoftLabels(Objective):
    """`ce` + `kd`: ce_weight * CE + kd_weight * softened cross-entropy, weighted sample by sample.

    "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective" (Zhou et al.,
    ICLR 2021, arXiv 2102.00650): see `distill.losses.weighted`. `kd_weight` is its alpha; T^2 is inside. `kd`
    is a cross-entropy, so it does not fall to 0, and it may rise while the student learns to be wrong less often
    than its teacher: the weights grow with the student's own loss, and pass no gradient.

    Raises ValueError where `temperature` <= 0, a weight is negative, both are zero or a number is not finite.
    """

    def __init__(self, *, temperature: float, ce_weight: float, kd_weight: float) -> None:
        super().__init__()
        refuse([*temperature_faults(temperature), *weight_faults(ce_weight=ce_weight, kd_weight=kd_weight)])
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
            sides = student.logits, teacher_logits(teacher)
            weighted = weighted_soft_labels(*sides, batch.labels, temperature=self.temperature)
            terms["kd"] = self.kd_weight * weighted
        return terms
