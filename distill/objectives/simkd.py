"""Distillation with the reused teacher classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from distill.losses.maps import hint
from distill.losses.precision import at_least_float32
from distill.losses.resize import to_common_size
from distill.models import Network
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import given, label_term, outlines
from distill.objectives.needs import need_final_map, need_head, need_teacher
from distill.objectives.objective import Objective, Task
from distill.objectives.pooled_head import need_pooled_head
from distill.objectives.reused_classifier import ReusedClassifier

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class ClassifierReuse(Objective):
    """`simkd`: `feature`, feature_weight * mean squared error of the projected map and the teacher's last map.

    "Knowledge Distillation with the Reused Teacher Classifier" (Chen et al., CVPR 2022, arXiv 2203.14001), Eq. 3: the
    student is trained on nothing but the teacher's map before pooling and keeps the teacher's classifier, which is
    frozen. `attach` returns what is trained, counted and exported: the student without its own classifier, the
    projector (1x1, 3x3 and 1x1 convolutions, `reduction` = 2 in the middle) and that classifier, a `ReusedClassifier`.
    The mean is over batch, channels and cells, as in its code. A student's map that is larger than the teacher's is
    averaged down in the network; where the teacher's is larger, its target is.

    `ce`, ce_weight * cross-entropy of the deployed logits, is the paper's only with weight 0.

    Raises ValueError where `reduction` < 1, `ce_weight` is negative, or `feature_weight` is not positive; from `attach`
    where a network has no last map and linear classifier, or the teacher's does not read the map's average.
    """

    logits_only = False
    deploys = True

    def __init__(self, *, reduction: int = 2, ce_weight: float = 0.0, feature_weight: float = 1.0) -> None:
        super().__init__()
        faults = [] if reduction >= 1 else [f"reduction must be >= 1, got {reduction}: set loss.reduction=2"]
        refuse(
            [
                *faults,
                *weight_faults(ce_weight=ce_weight, feature_weight=1.0),
                *weight_faults(feature_weight=feature_weight),
            ]
        )
        self.reduction = reduction
        self.ce_weight, self.feature_weight = ce_weight, feature_weight

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> ReusedClassifier:
        """The network that is trained in the student's place; it holds copies, both networks stay as they are."""
        ours, theirs = outlines(student, teacher, task)
        need_head(student, of="the student")
        source, target = need_final_map(ours, of="the student"), need_final_map(theirs, of="the teacher")
        classifier = need_pooled_head(need_teacher(teacher), theirs, of="the teacher", image_size=task.image_size)
        size = min(source.shape[2], target.shape[2]), min(source.shape[3], target.shape[3])
        return ReusedClassifier(
            cast(Network, student),
            classifier,
            channels=source.shape[1],
            reduction=self.reduction,
            size=None if size == source.shape[2:] else size,
        )

    def start(self, student: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Refused: what is trained is no longer the network of a first stage."""
        raise ValueError("simkd must not have a first stage, got one: remove loss.first_stage")

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce`, where its weight is positive, and `feature`; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        ours = at_least_float32(need_final_map(student, of="the student"))
        theirs = at_least_float32(need_final_map(given(teacher), of="the teacher")).detach()
        terms["feature"] = self.feature_weight * hint(*to_common_size(ours, theirs))
        return terms
