"""Relational KD: distances and angles between the embeddings of a batch. Relational."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import embeddings, outlines
from distill.losses.numeric import at_least_float32, root
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

# Squared distances below this part of the squared norms are rounding: 16 units in the last place of float64.
COINCIDENT = 16 * 2.0**-52


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the distances between samples, each network's in units of its mean: (B, D) each.

    "Relational Knowledge Distillation" (Park et al., CVPR 2019, arXiv 1904.05068), Eqs. 3 to 6. The mean mu runs
    over pairs of different samples; the loss is the mean over all B^2 entries, the zero diagonal included, and
    the student's mu has a gradient (both as in the authors' code, which the weight 25 belongs to). Equal
    embeddings are at distance 0, without a gradient. The batch written twice stretches all distances by
    (2 B - 1) / (2 B - 2), hence the loss by the square of that while differences stay below 1.
    """
    return functional.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the cosines of the angles in all triplets of samples, mean over B^3: (B, D) each.

    "Relational Knowledge Distillation" (Park et al., CVPR 2019, arXiv 1904.05068), Eqs. 7 and 8: the angle at
    sample j between i and k. Triplets with two equal members count, with cosine 0 on both sides where the vertex
    is among them, as in the authors' code. From the Gram matrix, (x_i - x_j).(x_k - x_j) = G_ik - G_ij - G_jk +
    G_jj: B^3 numbers, none of size B^2 D. The batch written twice gives the same loss.
    """
    return functional.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _relative_distances(embeddings: Tensor) -> Tensor:
    _, distances = _gram_and_distances(embeddings)
    samples = distances.shape[0]
    mean = distances.sum() / max(samples * (samples - 1), 1)
    relative = distances / mean.where(mean > 0, 1.0)
    return relative.to(at_least_float32(embeddings).dtype)


def _cosines(embeddings: Tensor) -> Tensor:
    gram, distances = _gram_and_distances(embeddings)
    coincident = distances == 0
    closeness = (1 / distances.where(~coincident, 1.0)).where(~coincident, 0.0)  # (B, B), first index the vertex
    products = gram - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]  # (vertex, i, k)
    cosines = products * closeness[:, :, None] * closeness[:, None, :]
    return cosines.to(at_least_float32(embeddings).dtype)


def _gram_and_distances(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    # float64, and centred: what follows are differences of Gram entries, in which float32 (let alone TF32) would
    # lose the small distances. Neither distances nor angles depend on the centre, so it needs no gradient.
    x = embeddings.double()
    x = x - x.detach().mean(dim=0)
    gram = x @ x.mT
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    return gram, root(sums - 2 * gram, least=COINCIDENT * sums.detach())


class RelationalDistillation(Objective):
    """`ce` + `distance` + `angle`: ce_weight * CE(student, labels) + feature_weight * (distance_weight *
    distance_relation + angle_weight * angle_relation), see these functions for paper and
    equations, on the embeddings as they are, not normalised.

    The embeddings may differ in length. Relational. No gradient reaches the teacher.

    Raises ValueError if a weight is negative or not finite, or no term is left; `attach` raises it if a
    network has no embedding.
    """

    family = "rkd"
    reads = ("embedding",)
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
        """The terms `ce`, `distance` and `angle`, each only if its weights are positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight * self.distance_weight > 0:
            distance = distance_relation(*embeddings(student, teacher))
            terms["distance"] = self.feature_weight * self.distance_weight * distance
        if self.feature_weight * self.angle_weight > 0:
            terms["angle"] = self.feature_weight * self.angle_weight * angle_relation(*embeddings(student, teacher))
        return terms
