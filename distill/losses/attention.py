"""Attention transfer: the student matches where the teacher's feature maps are strong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import need_taps, outlines
from distill.losses.numeric import at_least_float32, unit
from distill.losses.objective import Objective, Task
from distill.losses.taps import checked_pairing, paired, to_common_size

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def attention_transfer(student_map: Tensor, teacher_map: Tensor, *, power: float = 2) -> Tensor:
    """Squared distance of the attention maps, averaged over batch and positions: (B, C, H, W) each.

    "Paying More Attention to Attention" (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928), Eq. 2 for one
    pair: the map is sum_c |A_c|^p, flattened and divided by its Euclidean norm. Two differences from Eq. 2,
    both taken from the authors' code: the distance is squared, and beta / 2 becomes a weight on the mean over
    the map. Channels may differ in number; of maps of different sizes the larger is pooled before the power.
    A map of zeros has zero attention and passes no gradient.
    """
    student, teacher = to_common_size(at_least_float32(student_map), at_least_float32(teacher_map))
    return (_attention(student, power) - _attention(teacher, power)).square().mean()


def _attention(feature_map: Tensor, power: float) -> Tensor:
    # The mean over channels, not the sum: the same after the division, and no overflow for wide maps.
    return unit(feature_map.abs().pow(power).mean(dim=1).flatten(1))  # (B, HW)


class AttentionTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * sum over pairs of taps of the distance of
    their attention maps; see `attention_transfer` for paper and equation.

    The taps are the stage outputs without the stem, in the pairs of `distill.losses.taps.pair_taps`; of two
    sizes the larger map is pooled. `power` is the paper's p. No gradient reaches the teacher.

    Raises ValueError if `power` < 1, a weight is negative, both are zero or a number is not finite; `attach`
    raises it if a network has fewer than two taps.
    """

    family = "at"
    reads = ("features",)

    def __init__(
        self, *, power: float = 2.0, pairing: str = "size", ce_weight: float = 1.0, feature_weight: float
    ) -> None:
        super().__init__()
        refuse([*_power_faults(power), *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.power = power
        self.pairing = checked_pairing(pairing)
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks without taps; there is nothing to learn."""
        if self.needs_teacher:
            need_taps(*outlines(student, teacher, task), least=2)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            distances = [
                attention_transfer(s, t, power=self.power) for s, t in paired(student, teacher, pairing=self.pairing)
            ]
            terms["feature"] = self.feature_weight * torch.stack(distances).sum()
        return terms


def _power_faults(power: float) -> list[str]:
    if 1 <= power < math.inf:  # below 1 the attention of a dead unit would have an infinite slope
        return []
    rule = "finite" if power == math.inf else ">= 1"
    return [f"power must be {rule}, got {power}: set loss.power to 2, the field's value"]
