"""Labels plus the teacher's spatial attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.maps import attention_transfer
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import label_term, need_taps, outlines
from distill.objectives.objective import Objective, Task
from distill.objectives.taps import paired

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class AttentionTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * sum over pairs of taps of the distance of
    their attention maps, `distill.losses.maps.attention_transfer` (which names paper and equation).

    The taps are the stage outputs without the stem, in the pairs of `distill.objectives.taps.pair_taps`; of two
    sizes the larger map is pooled. `power` is the paper's p. No gradient reaches the teacher.

    Raises ValueError where `power` < 1, a weight is negative, both are zero or a number is not finite; `attach`
    raises it where a network has fewer than two taps.
    """

    logits_only = False

    def __init__(self, *, power: float = 2.0, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        refuse([*_power_faults(power), *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.power = power
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks without taps; there is nothing to learn."""
        if self.needs_teacher:
            need_taps(*outlines(student, teacher, task), least=2)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            distances = [attention_transfer(s, t, power=self.power) for s, t in paired(student, teacher)]
            terms["feature"] = self.feature_weight * torch.stack(distances).sum()
        return terms


def _power_faults(power: float) -> list[str]:
    if 1 <= power < math.inf:  # below 1 the attention of a dead unit would have an infinite slope
        return []
    rule = "finite" if power == math.inf else ">= 1"
    return [f"power must be {rule}, got {power}: set loss.power to 2, the field's value"]
