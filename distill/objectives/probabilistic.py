"""Labels plus the probabilities with which a sample would pick another, as the teacher's embedding has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.relation import probabilistic_transfer
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import embeddings, label_term, outlines
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class ProbabilisticTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * probabilistic_transfer(student, teacher),
    of `distill.losses.relation` (which names the paper), on the embeddings.

    The embeddings may differ in length. Relational. No gradient reaches the teacher.

    Raises ValueError where a weight is negative or not finite, or both are zero; `attach` raises it where a network
    has no embedding.
    """

    logits_only = False
    relational = "compares the probabilities of all pairs of samples: the batch written twice halves the term"

    def __init__(self, *, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks without an embedding; there is nothing to learn."""
        if self.needs_teacher:
            embeddings(*outlines(student, teacher, task))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * probabilistic_transfer(*embeddings(student, teacher))
        return terms
