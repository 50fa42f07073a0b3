"""Feature maps of student and teacher: which are compared, brought to one size, and summed over stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.networks import given, need_preactivations, need_taps

if TYPE_CHECKING:
    from distill.models import Output

Pair = tuple[int, int]


def to_common_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, C, H, W) of any sizes, the larger averaged down to the smaller (adaptive average pooling).

    Height and width are treated separately. A map that already has the common size is returned unchanged.
    """
    height = min(student_map.shape[2], teacher_map.shape[2])
    width = min(student_map.shape[3], teacher_map.shape[3])
    return _to_size(student_map, height, width), _to_size(teacher_map, height, width)


def _to_size(feature_map: Tensor, height: int, width: int) -> Tensor:
    if feature_map.shape[2:] == (height, width):
        return feature_map
    return functional.adaptive_avg_pool2d(feature_map, (height, width))


def pair_taps(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> tuple[Pair, ...]:
    """Positions (in the student, in the teacher) of the taps to compare, first to last; at least one pair.

    Tap 0, the stem, is not compared. Both networks need two taps or more (`need_features(..., least=2)`).

    By position, f1 with f1 and so on, as many as the shorter network has, whatever their sizes: so does RepDistiller's
    code, with which the field's tables were made (wrn_40_2 -> mobilenet_v2: three pairs). Where the numbers of taps
    differ and no size (H, W) occurs in both, as for a transformer under a CNN, by position from the last tap instead.
    Methods of version 1 paired equal sizes where the numbers of taps differ.

    Only the shapes (B, C, H, W) are read, so meta tensors are enough.
    """
    count = min(len(student), len(teacher)) - 1
    sizes = [{tap.shape[2:] for tap in taps[1:]} for taps in (student, teacher)]
    if len(student) == len(teacher) or sizes[0] & sizes[1]:
        return tuple((i, i) for i in range(1, count + 1))
    return tuple((len(student) - i, len(teacher) - i) for i in range(count, 0, -1))


def paired(student: Output, teacher: Output | None) -> list[tuple[Tensor, Tensor]]:
    """The pairs of maps that `pair_taps` chooses, the student's first; the teacher's are detached."""
    ours, theirs = need_taps(student, given(teacher), least=2)
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs)]


def paired_preactivations(student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
    """The maps before their ReLU, in the pairs of `pair_taps`, the student's first; the teacher's are detached."""
    need_taps(student, teacher, least=2)
    ours = need_preactivations(student, of="the student")
    theirs = need_preactivations(teacher, of="the teacher")
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs)]


def halving_sum(distances: Sequence[Tensor]) -> Tensor:
    """Weighted sum of the distances of stages 1 to L: stage i has the factor 1 / 2^(L - i).

    These factors are those of the CIFAR code of "A Comprehensive Overhaul of Feature Distillation" (Heo et al., ICCV
    2019); the text weighs all stages equally.
    """
    total = distances[0]
    for distance in distances[1:]:
        total = total / 2 + distance
    return total
