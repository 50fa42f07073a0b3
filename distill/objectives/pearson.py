"""Labels plus correlations of predictions (DIST)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.logit import cross_entropy, identity
from distill.losses.pearson import inter_class, intra_class
from distill.objectives.checks import refuse, temperature_faults, weight_faults
from distill.objectives.objective import Objective
from distill.objectives.teacher_logits import teacher_logits

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class PearsonKD(Objective):
    """`ce` + `inter` + `intra`: the losses of `distill.losses.pearson`, each times its weight.

    "Knowledge Distillation from A Stronger Teacher" (DIST, Huang et al., NeurIPS 2022, arXiv 2205.10536);
    `inter_weight` is its beta, `intra_weight` its gamma. T^2 is inside both terms.

    `transform` is applied to the logits of both sides. The z-score is no identity here: the correlations are
    those of softmaxed logits, which do not see a shift of a row but do see its scale, as a temperature of the
    sample's own.

    Raises ValueError where `temperature` <= 0, a weight is negative, all are zero or a number is not finite.
    """

    relational = "correlates each class over the batch's samples; a batch written twice gives the same loss"

    def __init__(
        self,
        *,
        temperature: float,
        ce_weight: float,
        inter_weight: float,
        intra_weight: float,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        weights = {"ce_weight": ce_weight, "inter_weight": inter_weight, "intra_weight": intra_weight}
        refuse([*temperature_faults(temperature), *weight_faults(**weights)])
        self.temperature = temperature
        self.ce_weight = ce_weight
        self.inter_weight = inter_weight
        self.intra_weight = intra_weight
        self.transform = transform
        self.needs_teacher = inter_weight > 0 or intra_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `inter` and `intra`, each only where its weight is positive; progress is not read."""
        terms = {}
        if self.ce_weight > 0:
            terms["ce"] = self.ce_weight * cross_entropy(student.logits, batch.labels)
        if not self.needs_teacher:
            return terms
        sides = self.transform(student.logits), self.transform(teacher_logits(teacher))
        if self.inter_weight > 0:
            terms["inter"] = self.inter_weight * inter_class(*sides, temperature=self.temperature)
        if self.intra_weight > 0:
            terms["intra"] = self.intra_weight * intra_class(*sides, temperature=self.temperature)
        return terms
