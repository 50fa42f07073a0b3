"""DIST: what has to match is how predictions vary, over the classes of a sample and over the samples of a class.

"Knowledge Distillation from A Stronger Teacher" (Huang et al., NeurIPS 2022, arXiv 2205.10536): the distance
1 - rho, rho Pearson's correlation of softened probabilities. It depends neither on their scale nor on
their shift, so a student need not copy its teacher's numbers. B is the batch, K the number of classes; logits are
(B, K). Scalars; T^2 inside, as in the authors' code; student first, teacher second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.losses.checks import refuse, temperature_faults, weight_faults
from distill.losses.networks import both_logits
from distill.losses.objective import Objective
from distill.losses.softened import log_softened
from distill.losses.transforms import identity

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

EPS = 1e-8  # of the authors' code


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of every row: (N, M), (N, M) -> (N,), in -1..1.

    EPS is added to the product of the two norms: the correlation with a constant row is 0, and so is that of
    rows whose spread is below 1e-4. The gradient at a constant row is finite, at most |other| / EPS.
    """
    first = first - first.mean(dim=-1, keepdim=True)
    second = second - second.mean(dim=-1, keepdim=True)
    norms = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
    return (first * second).sum(dim=-1) / (norms + EPS)


def inter_class(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """T^2 times the mean over samples of 1 - rho over the sample's K classes, L_inter: per-sample terms."""
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return (1 - pearson(student, teacher)).mean() * temperature * temperature


def intra_class(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """T^2 times the mean over classes of 1 - rho over the class's B samples, L_intra.

    Relational; a batch written twice has the same correlations. A batch of one has none: 1, without gradient.
    """
    student, teacher = (log_softened(logits, temperature).exp() for logits in (student_logits, teacher_logits))
    return (1 - pearson(student.T, teacher.T)).mean() * temperature * temperature


class PearsonKD(Objective):
    """`ce` + `inter` + `intra`: `inter_class` and `intra_class`, each times its weight.

    "Knowledge Distillation from A Stronger Teacher" (DIST, Huang et al., NeurIPS 2022, arXiv 2205.10536);
    `inter_weight` is its beta, `intra_weight` its gamma. T^2 is inside both terms.

    `transform` is applied to the logits of both sides. The z-score changes the result: the
    correlations are those of softmaxed logits, which do not depend on the shift of a row but do depend on its scale,
    which acts as a temperature of that sample.

    Raises ValueError if `temperature` <= 0, a weight is negative, all are zero or a number is not finite.
    """

    family = "dist"
    reads = ("logits",)
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
        """The terms `ce`, `inter` and `intra`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if not self.needs_teacher:
            return terms
        ours, theirs = both_logits(student, teacher)
        sides = self.transform(ours), self.transform(theirs)
        if self.inter_weight > 0:
            terms["inter"] = self.inter_weight * inter_class(*sides, temperature=self.temperature)
        if self.intra_weight > 0:
            terms["intra"] = self.intra_weight * intra_class(*sides, temperature=self.temperature)
        return terms
