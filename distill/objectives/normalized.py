"""Labels plus normalised knowledge distillation (NKD)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy
from distill.losses.normalized import nkd_nontarget, nkd_target
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class NormalizedKD(Objective):
    """`ce` + `target` + `nontarget`: the losses of `distill.losses.normalized`, each times its weight.

    "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
    Customized Soft Labels" (Yang et al., ICCV 2023, arXiv 2303.13005). `nontarget_weight` is its gamma and
    `temperature` its lambda, which acts on the non-target term alone, lambda^2 inside; the target term has the
    weight 1 there. The two are cross-entropies, so they do not fall to 0.

    Raises ValueError where `temperature` <= 0, a weight is negative, all are zero or a number is not finite.
    """

    def __init__(self, *, temperature: float, ce_weight: float, target_weight: float, nontarget_weight: float) -> None:
        super().__init__()
        weights = {"ce_weight": ce_weight, "target_weight": target_weight, "nontarget_weight": nontarget_weight}
        refuse([*temperature_faults(temperature), *weight_faults(**weights)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.target_weight = target_weight
        self.nontarget_weight = nontarget_weight
        self.needs_teacher = target_weight > 0 or nontarget_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `target` and `nontarget`, each only where its weight is positive; progress is not read."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if self.target_weight > 0:
            target = nkd_target(student.logits, teacher_logits(teacher), batch.labels)
            terms["target"] = self.target_weight * target
        if self.nontarget_weight > 0:
            sides = student.logits, teacher_logits(teacher)
            nontarget = nkd_nontarget(*sides, batch.labels, temperature=self.temperature)
            terms["nontarget"] = self.nontarget_weight * nontarget
        return terms
