"""Knowledge review: the student's deeper maps help each shallower one to match the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses.adapters import Normalize, convolution
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import embeddings, need_taps, outlines, require_output
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.ramps import linear_ramp, ramp_faults
from distill.losses.taps import checked_pairing, pair_taps

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

GRIDS = (4, 2, 1)
Level = tuple[Tensor, Tensor]


def hierarchical_context(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """HCL: mean squared error of two maps (B, C, H, W) and of their averages over coarser and coarser grids.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3.4: spatial
    pyramid pooling separates the levels of context. The paper names neither grids nor weights; those of its code are
    used: grids 4x4, 2x2 and 1x1 as far as they are smaller than the map, each with half the weight of the one before
    (the map itself 1), divided by the sum of the weights. Mean over batch, channels and cells; per-sample terms.
    """
    student, teacher = at_least_float32(student_map), at_least_float32(teacher_map)
    total, weight, weights = functional.mse_loss(student, teacher), 1.0, 1.0
    for grid in GRIDS:
        if grid >= student.shape[2]:
            continue
        weight /= 2
        weights += weight
        ours, theirs = (functional.adaptive_avg_pool2d(side, grid) for side in (student, teacher))
        total = total + weight * functional.mse_loss(ours, theirs)
    return total / weights


class TopLevel(nn.Module):
    """The deepest level, above which there is nothing to fuse: a 1x1 and a 3x3 convolution, each with BatchNorm."""

    def __init__(self, channels_in: int, channels: int, channels_out: int) -> None:
        super().__init__()
        self.reduce = _uniform(channels_in, channels, 1)
        self.expand = _uniform(channels, channels_out, 3)

    def forward(self, maps: Tensor) -> Level:
        """For the loss (B, channels_out, H, W), and for the next level (B, channels, H, W)."""
        reduced = self.reduce(maps)
        return self.expand(reduced), reduced


class AttentionFusion(nn.Module):
    """ABF: a student's map fused with the output of the level above, and brought to the teacher's shape.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3.3 and figure 3:
    a 1x1 convolution takes the map to `channels`; the level above is brought to its size; from both together a 1x1
    convolution and a sigmoid make two attention maps, which weigh their sum. The sum, brought to the teacher's size,
    goes to the next level, and through a 3x3 convolution to the loss. Sizes change by nearest neighbours, as in its
    code.
    """

    def __init__(self, channels_in: int, channels: int, channels_out: int, *, size: tuple[int, int]) -> None:
        """`channels_out` and `size` (H, W) are the teacher's."""
        super().__init__()
        self.size = size
        self.reduce = _uniform(channels_in, channels, 1)
        self.attend = nn.Conv2d(2 * channels, 2, 1)
        self.expand = _uniform(channels, channels_out, 3)

    def forward(self, maps: Tensor, above: Tensor) -> Level:
        """For the loss (B, channels_out, *size), and for the next level (B, channels, *size)."""
        ours = self.reduce(maps)
        above = _resized(above, tuple(ours.shape[2:]))
        attention = torch.sigmoid(self.attend(torch.cat([ours, above], dim=1)))  # (B, 2, H, W)
        fused = _resized(ours * attention[:, :1] + above * attention[:, 1:], self.size)
        return self.expand(fused), fused


def _uniform(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    layer = convolution(channels_in, channels_out, kernel)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    return nn.Sequential(layer, Normalize(channels_out))


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else functional.interpolate(maps, size=size, mode="nearest")


class KnowledgeReview(Objective):
    """`review_kd`: `ce` + `feature`, feature_weight * ramp * sum over levels of the hierarchical context loss.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3: the deeper maps
    of the student help each shallower one to meet the teacher's, by residual learning with attention-based fusion
    (ABF, see `AttentionFusion`) and the hierarchical context loss (HCL, see `hierarchical_context`). The levels are
    the pairs of `pair_taps`, the stem left out, and above them the embeddings as maps of one cell, as in its code.
    The student's maps are taken after their ReLU, the teacher's before it, if the teacher has them, otherwise as they
    are. The fused maps have as many channels as the student's embedding, `max_channels` at most.

    The ramp is that of the field's code: e / ramp_epochs in epoch e = 1, 2, ..., at most 1.

    Raises ValueError if `ramp_epochs` or `max_channels` < 1, or the weights are negative or all zero; from `attach`
    if a network has fewer than two feature maps or no embedding.
    """

    family = "review_kd"
    reads = ("features", "embedding")

    def __init__(
        self,
        *,
        ramp_epochs: int = 20,
        max_channels: int = 512,
        pairing: str = "size",
        ce_weight: float = 1.0,
        feature_weight: float = 5.0,
    ) -> None:
        super().__init__()
        faults = list(ramp_faults(ramp_epochs))
        if max_channels < 1:
            faults.append(f"max_channels must be >= 1, got {max_channels}: set loss.max_channels=512, say")
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.ramp_epochs, self.max_channels = ramp_epochs, max_channels
        self.pairing = checked_pairing(pairing)
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
        self.pairs = pair_taps(students, teachers, pairing=self.pairing)
        self.top = TopLevel(deep, channels, wide)
        shapes = [(students[i].shape[1], teachers[j].shape) for i, j in self.pairs]
        self.levels = nn.ModuleList(
            AttentionFusion(narrow, channels, target[1], size=(target[2], target[3])) for narrow, target in shapes
        )

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            ramp = linear_ramp(progress, epochs=self.ramp_epochs)
            terms["feature"] = self.feature_weight * ramp * self._review(student, require_output(teacher))
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
