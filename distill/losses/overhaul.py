"""Overhaul of feature distillation: margin ReLU and partial L2 distance. Pure; student first, teacher second."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.precision import at_least_float32


def partial_l2(student_map: Tensor, teacher_map: Tensor, *, margin: Tensor) -> Tensor:
    """Squared distance to max(teacher, margin), summed over a map, where it matters; mean over the batch.

    "A Comprehensive Overhaul of Feature Distillation" (Heo et al., ICCV 2019, arXiv 1904.01866), section 3: margin
    ReLU and partial L2 distance. Where the target t = max(teacher, margin) is not positive and the student already
    lies at or below it, the ReLU behind hides the difference and the distance is 0; elsewhere it is (s - t)^2.
    No factor is inside. Per-sample terms.

    Args:
        student_map: (B, C, H, W) before a ReLU, in the teacher's channels.
        teacher_map: (B, C, H, W) before its ReLU.
        margin: negative, broadcast to the maps: (C, 1, 1), what is asked for where the teacher is far below zero.
    """
    student = at_least_float32(student_map)
    target = torch.maximum(at_least_float32(teacher_map), at_least_float32(margin))
    matters = (student > target) | (target > 0)
    distance = torch.where(matters, student - target, 0.0).square()
    return distance.flatten(1).sum(dim=1).mean()


def halving_sum(distances: Sequence[Tensor]) -> Tensor:
    """Sum of the distances, first to last stage: the last counts whole, each earlier one half of the next.

    The factors 1 / 2^(L - i) of the paper's CIFAR recipe (its code; the text weighs all stages alike).
    """
    total = distances[0]
    for distance in distances[1:]:
        total = total / 2 + distance
    return total
