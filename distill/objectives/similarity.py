"""Labels plus the similarities between the samples of a batch, as the teacher's last maps have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.relation import similarity_preserving
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import label_term, last_maps, need_taps, outlines
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class SimilarityPreserving(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * similarity_preserving(student, teacher),
    of `distill.losses.relation` (which names paper and equations).

    The activations are those of the last tap, the end of the last stage; sizes and channels need not agree.
    Relational. No gradient reaches the teacher.

    Raises ValueError where a weight is negative or not finite, or both are zero; `attach` raises it where a network
    has no taps.
    """

    logits_only = False
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
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * similarity_preserving(*last_maps(student, teacher))
        return terms
