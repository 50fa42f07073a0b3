"""Correlation congruence of learned embeddings of student and teacher. Relational."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.adapters import apply
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import embeddings, outlines
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def neighbour_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Inner products of neighbouring samples' absolute differences, mean over the B - 1 pairs: (B, D) each.

    "Correlation Congruence for Knowledge Distillation" (Peng et al., ICCV 2019, arXiv 1904.01802), in the
    reduced form in which the field's tables hold it: with d_i = |s_i - t_i| entry by entry, mean_i d_i . d_{i+1}.
    It uses no kernel, neither the paper's bilinear nor its Gaussian one: only the first off-diagonal of the two
    correlation matrices is compared, through the difference of the features. The value depends on the order of the
    batch, which is random; its mean over all orders is that of d_i . d_j over pairs i != j. With S the sum over
    pairs, a batch written twice gives (2 S + d_B . d_1) / (2 B - 1). A batch of one sample has no pair and gives 0.
    """
    difference = (at_least_float32(student) - at_least_float32(teacher)).abs()
    pairs = max(difference.shape[0] - 1, 1)
    return (difference[:-1] * difference[1:]).sum() / pairs


class CorrelationCongruence(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * neighbour_congruence(student, teacher).

    See `neighbour_congruence` for the paper and for what this reduced form leaves out.

    Each network has a linear layer, with bias, that maps its embedding to `dimensions` numbers; both layers are
    learned with the student, as in the field's code. Relational. No gradient reaches the teacher.

    Raises ValueError if `dimensions` < 1, a weight is negative or not finite, or both are zero; `attach` raises it
    if a network has no embedding.
    """

    family = "cc"
    reads = ("embedding",)
    relational = (
        "multiplies the differences of neighbouring samples in the batch; with S the sum over pairs, a the first and b "
        "the last difference, a batch of B written twice gives (2 S + a.b) / (2B - 1)"
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
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            ours, theirs = embeddings(student, teacher)
            projected = apply(self.student_projection, ours), apply(self.teacher_projection, theirs)
            terms["feature"] = self.feature_weight * neighbour_congruence(*projected)
        return terms


def _dimensions_fault(dimensions: int) -> str:
    return f"dimensions must be >= 1, got {dimensions}: set loss.dimensions to 128, the field's value"
