"""Feature maps of student and teacher: which are compared, brought to one size, and summed over stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from distill.losses.networks import need_preactivations, need_taps, require_output

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


PAIRINGS = ("position", "size")


def checked_pairing(pairing: str) -> str:
    """`pairing` itself; ValueError unless it is one of `PAIRINGS`."""
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing must be {' or '.join(PAIRINGS)}, got {pairing}: set loss.pairing=position")
    return pairing


def pair_taps(student: Sequence[Tensor], teacher: Sequence[Tensor], *, pairing: str) -> tuple[Pair, ...]:
    """Positions (in the student, in the teacher) of the taps to compare, first to last; at least one pair.

    Tap 0, the stem, is not compared. Both networks need two taps or more (`need_features(..., least=2)`).

    1. Equal numbers of taps: by position, f1 with f1 and so on, whatever their sizes (as in the literature).
    2. Otherwise, where a size (H, W) occurs in both: with `pairing="position"` by position too, as many as the shorter
       network has, as in RepDistiller's code, with which the field's tables were made (wrn_40_2 -> mobilenet_v2: three
       pairs); with `pairing="size"`, for every common size, the deepest tap of that size on each side.
    3. No size in common: by position from the deep end, last with last.

    Each tap occurs at most once, and both sides keep their order, since maps shrink with depth. Only the shapes
    (B, C, H, W) are read, so meta tensors are enough.
    """
    count = min(len(student), len(teacher)) - 1
    students, teachers = _deepest_by_size(student), _deepest_by_size(teacher)
    common = [(students[size], teachers[size]) for size in students if size in teachers]
    if len(student) == len(teacher) or (common and pairing == "position"):
        return tuple((i, i) for i in range(1, count + 1))
    if common:
        return tuple(sorted(common))
    return tuple((len(student) - i, len(teacher) - i) for i in range(count, 0, -1))


def paired(student: Output, teacher: Output | None, *, pairing: str) -> list[tuple[Tensor, Tensor]]:
    """The pairs of maps that `pair_taps` chooses, the student's first; the teacher's are detached."""
    ours, theirs = need_taps(student, require_output(teacher), least=2)
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs, pairing=pairing)]


def paired_preactivations(student: Output, teacher: Output, *, pairing: str) -> list[tuple[Tensor, Tensor]]:
    """The maps before their ReLU, in the pairs of `pair_taps`, the student's first; the teacher's are detached."""
    need_taps(student, teacher, least=2)
    ours = need_preactivations(student, of="the student")
    theirs = need_preactivations(teacher, of="the teacher")
    return [(ours[i], theirs[j].detach()) for i, j in pair_taps(ours, theirs, pairing=pairing)]


def _deepest_by_size(taps: Sequence[Tensor]) -> dict[tuple[int, ...], int]:
    return {tuple(tap.shape[2:]): position for position, tap in enumerate(taps) if position}


def halving_sum(distances: Sequence[Tensor]) -> Tensor:
    """Weighted sum of the distances of stages 1 to L: stage i has the factor 1 / 2^(L - i).

    These factors are those of the CIFAR code of "A Comprehensive Overhaul of Feature Distillation" (Heo et al., ICCV
    2019); the text weighs all stages equally.
    """
    total = distances[0]
    for distance in distances[1:]:
        total = total / 2 + distance
    return total
