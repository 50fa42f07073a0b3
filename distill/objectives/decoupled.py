"""Labels plus decoupled knowledge distillation (DKD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.decoupled import nckd, tckd
from distill.losses.logit import cross_entropy, identity
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.ramps import linear_ramp, ramp_faults
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class DecoupledKD(Objective):
    """`ce` + `tckd` + `nckd`: ce_weight * CE + ramp * (target_weight * TCKD + nontarget_weight * NCKD).

    "Decoupled Knowledge Distillation" (Zhao et al., CVPR 2022, arXiv 2203.08679), Eq. 7; `target_weight` is its
    alpha, `nontarget_weight` its beta. T^2 is inside both terms. `transform` is applied to the logits of both
    sides before them, the z-score for instance; CE always sees raw logits. The ramp is that of the authors'
    code: e / ramp_epochs in epoch e, on both terms and not on CE.

    Raises ValueError where `temperature` <= 0, `ramp_epochs` < 1, a weight is negative, all are zero or a number is
    not finite.
    """

    def __init__(
        self,
        *,
        temperature: float,
        ce_weight: float,
        target_weight: float,
        nontarget_weight: float,
        ramp_epochs: int,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        weights = {"ce_weight": ce_weight, "target_weight": target_weight, "nontarget_weight": nontarget_weight}
        refuse([*temperature_faults(temperature), *weight_faults(**weights), *ramp_faults(ramp_epochs)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.target_weight = target_weight
        self.nontarget_weight = nontarget_weight
        self.ramp_epochs = ramp_epochs
        self.transform = transform
        self.needs_teacher = target_weight > 0 or nontarget_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `tckd` and `nckd`, each only where its weight is positive."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if not self.needs_teacher:
            return terms
        sides = self.transform(student.logits), self.transform(teacher_logits(teacher))
        ramp = linear_ramp(progress, epochs=self.ramp_epochs)
        if self.target_weight > 0:
            target = tckd(*sides, batch.labels, temperature=self.temperature)
            terms["tckd"] = ramp * self.target_weight * target
        if self.nontarget_weight > 0:
            nontarget = nckd(*sides, batch.labels, temperature=self.temperature)
            terms["nckd"] = ramp * self.nontarget_weight * nontarget
        return terms
