"""Knowledge review."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.precision import at_least_float32
from distill.losses.review import hierarchical_context
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import embeddings, given, label_term, need_taps, outlines
from distill.objectives.fusion import AttentionFusion, TopLevel
from distill.objectives.objective import Objective, Task
from distill.objectives.ramps import linear_ramp, ramp_faults
from distill.objectives.taps import pair_taps

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class KnowledgeReview(Objective):
    """`review_kd`: `ce` + `feature`, feature_weight * ramp * sum over levels of the hierarchical context loss.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3: the deeper maps
    of the student help each shallower one to meet the teacher's, by residual learning with attention-based fusion
    (ABF, see `AttentionFusion`) and the hierarchical context loss (HCL, see `hierarchical_context`). The levels are
    the pairs of `pair_taps`, the stem left out, and above them the embeddings as maps of one cell, as in its code.
    The student's maps are taken after their ReLU, the teacher's before it, where the teacher gives them, else as they
    are. The fused maps have as many channels as the student's embedding, `max_channels` at most.

    The ramp is that of the field's code: e / ramp_epochs in epoch e = 1, 2, ..., at most 1.

    Raises ValueError where `ramp_epochs` or `max_channels` < 1, or the weights are negative or all zero; from `attach`
    where a network has fewer than two feature maps or no embedding.
    """

    logits_only = False

    def __init__(
        self,
        *,
        ramp_epochs: int = 20,
        max_channels: int = 512,
        ce_weight: float = 1.0,
        feature_weight: float = 5.0,
    ) -> None:
        super().__init__()
        faults = list(ramp_faults(ramp_epochs))
        if max_channels < 1:
            faults.append(f"max_channels must be >= 1, got {max_channels}: set loss.max_channels=512, say")
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.ramp_epochs, self.max_channels = ramp_epochs, max_channels
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """One level for each pair of taps, and the top."""
        if not self.needs_teacher:
            return
        ours, theirs = outlines(student, teacher, task)
        students, teachers = need_taps(ours, theirs, least=2)
        deep, wide = (embedding.shape[1] for embedding in embeddings(ours, theirs))
        channels = min(deep, self.max_channels)
        self.pairs = pair_taps(students, teachers)
        self.top = TopLevel(deep, channels, wide)
        shapes = [(students[i].shape[1], teachers[j].shape) for i, j in self.pairs]
        self.levels = nn.ModuleList(
            AttentionFusion(narrow, channels, target[1], size=(target[2], target[3])) for narrow, target in shapes
        )

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            ramp = linear_ramp(progress, epochs=self.ramp_epochs)
            terms["feature"] = self.feature_weight * ramp * self._review(student, given(teacher))
        return terms

    def _review(self, student: Output, teacher: Output) -> Tensor:
        deep, target = (embedding[:, :, None, None] for embedding in embeddings(student, teacher))
        seen, above = self.top(at_least_float32(deep))
        losses = [hierarchical_context(seen, target)]
        for (i, j), level in zip(reversed(self.pairs), reversed(self.levels), strict=True):
            seen, above = level(at_least_float32(student.features[i]), above)
            losses.append(hierarchical_context(seen, _target(teacher, j)))
        return torch.stack(losses).sum()


def _target(teacher: Output, tap: int) -> Tensor:
    before = teacher.preactivations[tap] if tap < len(teacher.preactivations) else None
    return (teacher.features[tap] if before is None else before).detach()
