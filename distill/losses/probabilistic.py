"""Probabilistic knowledge transfer: the probability with which each sample would pick another. Relational."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import embeddings, outlines
from distill.losses.numeric import unit
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

EPS = 1e-7


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the batch's conditional probabilities, the mean over all B^2 entries: (B, D) each.

    "Learning Deep Representations with Probabilistic Knowledge Transfer" (Passalis and Tefas, ECCV 2018, arXiv
    1803.10837), section 3: the cosine kernel (cos + 1) / 2, each row divided by its sum, then KL(teacher ||
    student). As in the authors' code, which the field's weight belongs to: the sum includes a sample's
    similarity to itself, 1e-7 is added inside both logarithms, and the mean over entries replaces the sum. An
    embedding of zeros has cosine 0 with everything. The batch written twice halves the loss (up to the 1e-7).
    """
    p, q = _conditional(teacher), _conditional(student)
    return (p * ((p + EPS) / (q + EPS)).log()).mean()


def _conditional(embeddings: Tensor) -> Tensor:
    directions = unit(embeddings)
    # A cosine rounded below -1 would take the logarithm of a negative number.
    kernel = ((directions @ directions.mT + 1) / 2).clamp(min=0)  # (B, B)
    return kernel / kernel.sum(dim=1, keepdim=True)  # never 0: a sample counts 1 (or, without a direction, 1/2) itself


class ProbabilisticTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * probabilistic_transfer(student, teacher),
    see there for the paper, on the embeddings.

    The embeddings may differ in length. Relational. No gradient reaches the teacher.

    Raises ValueError if a weight is negative or not finite, or both are zero; `attach` raises it if a network
    has no embedding.
    """

    family = "pkt"
    reads = ("embedding",)
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
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * probabilistic_transfer(*embeddings(student, teacher))
        return terms
