"""Labels plus the distances and angles between the samples of a batch, as the teacher's embedding has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.relation import angle_relation, distance_relation
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import embeddings, label_term, outlines
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class RelationalDistillation(Objective):
    """`ce` + `distance` + `angle`: ce_weight * CE(student, labels) + feature_weight * (distance_weight *
    distance_relation + angle_weight * angle_relation), of `distill.losses.relation` (which names paper and
    equations), on the embeddings as they are, not normalised.

    The embeddings may differ in length. Relational. No gradient reaches the teacher.

    Raises ValueError where a weight is negative or not finite, or no term is left; `attach` raises it where a
    network has no embedding.
    """

    logits_only = False
    relational = (
        "compares the distances of all pairs, in units of their mean over distinct pairs, and the angles of all "
        "triplets: the batch of B written twice leaves the angle term as it is and stretches the distances by "
        "(2B - 1) / (2B - 2), the distance term by the square of that while differences stay below 1"
    )

    def __init__(
        self,
        *,
        distance_weight: float,
        angle_weight: float,
        ce_weight: float = 1.0,
        feature_weight: float = 1.0,
    ) -> None:
        super().__init__()
        faults = weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)
        faults += weight_faults(distance_weight=distance_weight, angle_weight=angle_weight)
        refuse(faults)
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks without an embedding; there is nothing to learn."""
        if self.needs_teacher:
            embeddings(*outlines(student, teacher, task))

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, `distance` and `angle`, each only where its weights are positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight * self.distance_weight > 0:
            distance = distance_relation(*embeddings(student, teacher))
            terms["distance"] = self.feature_weight * self.distance_weight * distance
        if self.feature_weight * self.angle_weight > 0:
            terms["angle"] = self.feature_weight * self.angle_weight * angle_relation(*embeddings(student, teacher))
        return terms
