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

    Height and width by themselves. A map that has the common size already comes back as it is.
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

    Tap 0, the stem, takes no part. Both networks need two taps or more (`need_features(..., least=2)`).

    1. As many taps on both sides: by position, f1 with f1 and so on, whatever their sizes (as the literature).
    2. Else by size: for every size (H, W) that both have, the deepest tap of that size on each side.
    3. No size in common: by position from the deep end, last with last.

    Each tap occurs once, and both sides keep their order, as maps shrink with depth. Sizes are read from the
    shapes (B, C, H, W) alone: meta tensors will do.
    """
    if len(student) == len(teacher):
        return tuple((i, i) for i in range(1, len(student)))
    students, teachers = _deepest_by_size(student), _deepest_by_size(teacher)
    common = [(students[size], teachers[size]) for size in students if size in teachers]
    if common:
        return tuple(sorted(common))
    count = min(len(student), len(teacher)) - 1
    return tuple((len(student) - i, len(teacher) - i) for i in range(count, 0, -1))


def paired(student: Output, teacher: Output | None) -> list[tuple[Tensor, Tensor]]:
    """The maps of `pair_taps`, student's first; the teacher's are cut from its graph."""
    ours, theirs = need_taps(student, given(teacher), least=2)
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs)]


def paired_preactivations(student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
    """The maps before their ReLU in the pairs of `pair_taps`, student's first; the teacher's are cut from its graph."""
    need_taps(student, teacher, least=2)
    ours = need_preactivations(student, of="the student")
    theirs = need_preactivations(teacher, of="the teacher")
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs)]


def _deepest_by_size(taps: Sequence[Tensor]) -> dict[tuple[int, ...], int]:
    return {tuple(tap.shape[2:]): position for position, tap in enumerate(taps) if position}


def halving_sum(distances: Sequence[Tensor]) -> Tensor:
    """Sum of the distances, first to last stage: the last counts whole, each earlier one half of the next.

    The factors 1 / 2^(L - i) of the paper's CIFAR recipe (its code; the text weighs all stages alike).
    """
    total = distances[0]
    for distance in distances[1:]:
        total = total / 2 + distance
    return total
