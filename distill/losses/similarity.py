"""Similarity-preserving distillation: the similarities between the samples of a batch. Relational."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import last_maps, need_taps, outlines
from distill.losses.numeric import at_least_float32, unit
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def similarity_preserving(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared distance of row-normalised similarity matrices over B^2: (B, ...) each.

    "Similarity-Preserving Knowledge Distillation" (Tung and Mori, ICCV 2019, arXiv 1907.09682), Eqs. 2 to 4: the
    activations are flattened to Q (B, CHW), G = Q Q' and each row of G is divided by its Euclidean norm. A
    sample of zeros has a row of zeros and passes no gradient through it. The batch written twice halves the
    loss.
    """
    difference = _similarities(student_map) - _similarities(teacher_map)  # (B, B)
    return difference.square().mean()


def _similarities(activations: Tensor) -> Tensor:
    flat = at_least_float32(activations).flatten(1)
    return unit(flat @ flat.mT)


class SimilarityPreserving(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * similarity_preserving(student, teacher),
    see there for paper and equations.

    The activations are those of the last tap, the end of the last stage; sizes and channels need not agree.
    Relational. No gradient reaches the teacher.

    Raises ValueError if a weight is negative or not finite, or both are zero; `attach` raises it if a network
    has no taps.
    """

    family = "sp"
    reads = ("features",)
    relational = "compares the similarities of all pairs of samples: the batch written twice halves the term"

    def __init__(self, *, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks without taps; there is nothing to learn."""
        if self.needs_teacher:
            need_taps(*outlines(student, teacher, task), least=1)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * similarity_preserving(*last_maps(student, teacher))
        return terms
