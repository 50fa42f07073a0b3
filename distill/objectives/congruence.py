"""Labels plus congruence of learned embeddings of student and teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.relation import neighbour_congruence
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import embeddings, label_term, outlines
from distill.objectives.learned import apply
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class CorrelationCongruence(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * neighbour_congruence(student, teacher), of
    `distill.losses.relation` (which names the paper and says what this reduced form leaves of it).

    Each network's embedding goes through a linear layer of its own, with bias, to `dimensions` numbers; both layers
    are learned with the student, as in the field's code. Relational. No gradient reaches the teacher.

    Raises ValueError where `dimensions` < 1, a weight is negative or not finite, or both are zero; `attach` raises it
    where a network has no embedding.
    """

    logits_only = False
    relational = (
        "multiplies the differences of samples that stand next to each other in the batch: of pairs' sum S, first "
        "difference a and last b, the batch of B written twice gives (2 S + a.b) / (2B - 1)"
    )
    student_projection: nn.Linear
    teacher_projection: nn.Linear

    def __init__(self, *, dimensions: int = 128, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        faults = [] if dimensions >= 1 else [_dimensions_fault(dimensions)]
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.dimensions = dimensions
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Builds the two linear layers."""
        if self.needs_teacher:
            ours, theirs = embeddings(*outlines(student, teacher, task))
            self.student_projection = nn.Linear(ours.shape[1], self.dimensions)
            self.teacher_projection = nn.Linear(theirs.shape[1], self.dimensions)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            ours, theirs = embeddings(student, teacher)
            projected = apply(self.student_projection, ours), apply(self.teacher_projection, theirs)
            terms["feature"] = self.feature_weight * neighbour_congruence(*projected)
        return terms


def _dimensions_fault(dimensions: int) -> str:
    return f"dimensions must be >= 1, got {dimensions}: set loss.dimensions to 128, the field's value"
