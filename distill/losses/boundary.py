"""Activation boundaries: the student matches where the teacher's neurons are active, not how strongly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.adapters import apply, connector
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import outlines, require_output
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.taps import checked_pairing, halving_sum, paired_preactivations, to_common_size

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def activation_boundary(connected: Tensor, teacher_preactivation: Tensor, *, margin: float = 1.0) -> Tensor:
    """Squared hinge between the student's response and the teacher's side of zero; (B, C, H, W) each.

    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons" (Heo et al., AAAI 2019,
    arXiv 1811.03233), its piecewise differentiable loss:

        |rho(t) * relu(margin - s) + (1 - rho(t)) * relu(margin + s)|^2,  rho(t) = 1 where t > 0 and 0 elsewhere

    `connected`, s, is the output of a connector for the student's map before its ReLU. Summed over a map, mean over the
    batch of per-sample terms. If the sizes differ, the larger map is averaged down. Only the teacher's signs are used,
    so it has no gradient.
    """
    student, teacher = to_common_size(at_least_float32(connected), at_least_float32(teacher_preactivation))
    side = (teacher > 0).to(student.dtype) * 2 - 1  # +1 where the teacher is active, -1 where not
    return (margin - side * student).clamp(min=0).square().sum(dim=(1, 2, 3)).mean()


class ActivationBoundary(Objective):
    """`feature`, feature_weight * sum over stages of 2^(i - L) * `activation_boundary`; with ce_weight > 0 also `ce`.

    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons" (Heo et al., AAAI 2019,
    arXiv 1811.03233), section 3: maps before their ReLU, a 1x1 convolution with BatchNorm as connector, margin 1. The
    paper trains the student on it first and on the labels afterwards: preset `ab` does so, this being its first stage.
    Stages halve towards the input and the weight is 0.003, both from the settings its code has for CIFAR.

    Its authors' code connects stages of equal shape by an identity and stages of other sizes by strided or transposed
    convolutions; here every connector is the 1x1 convolution of the paper, and the larger map is averaged down.

    Stages are paired by `pair_taps`, the stem left out.

    Raises ValueError if `margin` <= 0, the weights are negative or all zero; from `attach` if a network does not
    give its maps before their ReLU.
    """

    family = "ab"
    reads = ("features", "preactivations")

    def __init__(
        self, *, margin: float = 1.0, pairing: str = "size", ce_weight: float = 0.0, feature_weight: float = 0.003
    ) -> None:
        super().__init__()
        sound = 0 < margin < math.inf
        faults = [] if sound else [f"margin must be > 0 and finite, got {margin}: set loss.margin to 1, the paper's"]
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.pairing = checked_pairing(pairing)
        self.margin, self.ce_weight, self.feature_weight = margin, ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """One connector for each pair of stages."""
        if not self.needs_teacher:
            return
        pairs = paired_preactivations(*outlines(student, teacher, task), pairing=self.pairing)
        self.connectors = nn.ModuleList(connector(ours.shape[1], theirs.shape[1]) for ours, theirs in pairs)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            pairs = paired_preactivations(student, require_output(teacher), pairing=self.pairing)
            distances = [
                activation_boundary(apply(connect, ours), theirs, margin=self.margin)
                for (ours, theirs), connect in zip(pairs, self.connectors, strict=True)
            ]
            terms["feature"] = self.feature_weight * halving_sum(distances)
        return terms
