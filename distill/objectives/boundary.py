"""The first stage of activation boundaries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.boundary import activation_boundary
from distill.losses.overhaul import halving_sum
from distill.objectives.adapters import connector
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import given, label_term, need_taps, outlines
from distill.objectives.learned import apply
from distill.objectives.needs import need_preactivations
from distill.objectives.objective import Objective, Task
from distill.objectives.taps import pair_taps

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class ActivationBoundary(Objective):
    """`feature`, feature_weight * sum over stages of 2^(i - L) * `activation_boundary`; with ce_weight > 0 also `ce`.

    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons" (Heo et al., AAAI 2019,
    arXiv 1811.03233), section 3: maps before their ReLU, a 1x1 convolution with BatchNorm as connector, margin 1. The
    paper trains the student on it first and on the labels afterwards: preset `ab` does so, this being its first stage.
    Stages halve towards the input and the weight is 0.003, both from the settings its code has for CIFAR.

    Stages are paired by `pair_taps`, the stem left out.

    Raises ValueError where `margin` <= 0, the weights are negative or all zero; from `attach` where a network does not
    give its maps before their ReLU.
    """

    logits_only = False

    def __init__(self, *, margin: float = 1.0, ce_weight: float = 0.0, feature_weight: float = 0.003) -> None:
        super().__init__()
        sound = 0 < margin < math.inf
        faults = [] if sound else [f"margin must be > 0 and finite, got {margin}: set loss.margin to 1, the paper's"]
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.margin, self.ce_weight, self.feature_weight = margin, ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """One connector for each pair of stages."""
        if not self.needs_teacher:
            return
        ours, theirs = outlines(student, teacher, task)
        need_taps(ours, theirs, least=2)
        students, teachers = _before_relu(ours, theirs)
        self.pairs = pair_taps(students, teachers)
        widths = [(students[i].shape[1], teachers[j].shape[1]) for i, j in self.pairs]
        self.connectors = nn.ModuleList(connector(narrow, wide) for narrow, wide in widths)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            students, teachers = _before_relu(student, given(teacher))
            distances = [
                activation_boundary(apply(connect, students[i]), teachers[j].detach(), margin=self.margin)
                for (i, j), connect in zip(self.pairs, self.connectors, strict=True)
            ]
            terms["feature"] = self.feature_weight * halving_sum(distances)
        return terms


def _before_relu(student: Output, teacher: Output) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return need_preactivations(student, of="the student"), need_preactivations(teacher, of="the teacher")
