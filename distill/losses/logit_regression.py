"""Logit regression: labels plus a distance between the raw logits of student and teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import both_logits
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Logit regression: squared distance of raw logits, summed over the K classes, mean over the batch.

    "Do Deep Nets Really Need to be Deep?" (Ba and Caruana 2014, arXiv 1312.6184), the L2 loss on logits; the
    paper's factor 1/2 is not inside. Neither centred nor softened, no temperature. Per-sample terms.
    """
    return (at_least_float32(student_logits) - at_least_float32(teacher_logits)).square().sum(dim=-1).mean()


class LogitRegression(Objective):
    """`ce` + `kd`: ce_weight * CE(student, labels) + kd_weight * distance(student logits, teacher logits).

    `distance` is a function of both logits, in at least float32, without a temperature, such as `logit_mse`. No
    gradient reaches the teacher.

    Raises ValueError if a weight is negative or not finite, or both are zero.
    """

    reads = ("logits",)

    def __init__(self, *, distance: Callable[..., Tensor], ce_weight: float, kd_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, kd_weight=kd_weight))
        self.distance = distance
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.needs_teacher = kd_weight > 0

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.kd_weight > 0:
            terms["kd"] = self.kd_weight * self.distance(*both_logits(student, teacher))
        return terms
