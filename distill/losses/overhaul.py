"""Overhaul of feature distillation: margin ReLU and partial L2 distance. Pure; student first, teacher second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.adapters import connector
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import outlines, require_output
from distill.losses.numeric import at_least_float32, batch_sum
from distill.losses.objective import Objective, Task
from distill.losses.taps import checked_pairing, halving_sum, paired_preactivations, to_common_size

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def partial_l2(student_map: Tensor, teacher_map: Tensor, *, margin: Tensor) -> Tensor:
    """Squared distance to max(teacher, margin), summed over the relevant entries of a map; mean over the batch.

    "A Comprehensive Overhaul of Feature Distillation" (Heo et al., ICCV 2019, arXiv 1904.01866), section 3: margin
    ReLU and partial L2 distance. Where the target t = max(teacher, margin) is not positive and the student already
    lies at or below it, the following ReLU hides the difference and the distance is 0; elsewhere it is (s - t)^2.
    No factor is inside. Per-sample terms.

    Args:
        student_map: (B, C, H, W) before a ReLU, in the teacher's channels.
        teacher_map: (B, C, H, W) before its ReLU.
        margin: negative, broadcast to the maps: (C, 1, 1), the target where the teacher is far below zero.
    """
    student = at_least_float32(student_map)
    target = torch.maximum(at_least_float32(teacher_map), at_least_float32(margin))
    matters = (student > target) | (target > 0)
    distance = torch.where(matters, student - target, 0.0).square()
    return distance.flatten(1).sum(dim=1).mean()


class NegativeMean(nn.Module):
    """E[x | x < 0] of each channel over all maps seen in training: the margin of a margin ReLU, (C, 1, 1) and <= 0.

    Sums and counts are buffers in float64. A channel that has never been negative has margin 0.
    """

    total: Tensor
    count: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(channels, dtype=torch.float64))

    @torch.no_grad()
    def forward(self, maps: Tensor) -> Tensor:
        """Update the sums with maps (B, C, H, W) while training, and return the margin so far."""
        if self.training:
            self.total += batch_sum(maps.clamp(max=0), dim=(0, 2, 3), dtype=self.total.dtype)
            self.count += batch_sum(maps < 0, dim=(0, 2, 3), dtype=self.count.dtype)
        margin = self.total / self.count.clamp(min=1)
        return margin.to(maps.dtype)[:, None, None]


class FeatureOverhaul(Objective):
    """`ofd`: `ce` + `feature`, feature_weight * sum over stages of 2^(i - L) * partial L2 to the margin-ReLU'd teacher.

    "A Comprehensive Overhaul of Feature Distillation" (Heo et al., ICCV 2019, arXiv 1904.01866), section 3: maps before
    their ReLU, a 1x1 convolution and BatchNorm as the student's transform, margin ReLU as the teacher's, partial L2
    distance. The distance is summed over a map and averaged over the batch, stages halve towards the input; both are
    its CIFAR recipe, to which the weight 0.001 belongs.

    The margin is the mean negative response of a channel. The paper measures it in training or computes it from the
    scale and shift of a BatchNorm before the ReLU; public code takes the last BatchNorm of a stage even if a
    shortcut is added after it, and the sum has another distribution. Here it is measured on the maps that are
    compared, which is correct for every network: over all batches so far, including this one; the teacher is fixed.

    The teacher's BatchNorm normalises with the statistics of the batch, as its authors chose on purpose (their Table 8
    and code; mdistiller does the same). In version 1 it used the running statistics.

    Stages are paired by `pair_taps`, the stem left out. Of maps of different sizes the larger is averaged down.

    Raises ValueError if the weights are negative or all zero; from `attach` if a network does not give its maps
    before their ReLU.
    """

    family = "ofd"
    reads = ("features", "preactivations")
    version = 2
    teacher_batch_statistics = True

    def __init__(self, *, pairing: str = "size", ce_weight: float = 1.0, feature_weight: float = 0.001) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
        self.pairing = checked_pairing(pairing)
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """One connector and one margin for each pair of stages."""
        if not self.needs_teacher:
            return
        pairs = paired_preactivations(*outlines(student, teacher, task), pairing=self.pairing)
        widths = [(ours.shape[1], theirs.shape[1]) for ours, theirs in pairs]
        self.connectors = nn.ModuleList(connector(narrow, wide) for narrow, wide in widths)
        self.margins = nn.ModuleList(NegativeMean(wide) for _, wide in widths)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            terms["feature"] = self.feature_weight * self._distance(student, require_output(teacher))
        return terms

    def _distance(self, student: Output, teacher: Output) -> Tensor:
        distances = []
        pairs = paired_preactivations(student, teacher, pairing=self.pairing)
        for (before, target), connect, margin in zip(pairs, self.connectors, self.margins, strict=True):
            ours, theirs = to_common_size(at_least_float32(before), at_least_float32(target))
            distances.append(partial_l2(connect(ours), theirs, margin=margin(theirs)))
        return halving_sum(distances)
