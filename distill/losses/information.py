"""Variational information distillation: the likelihood of the teacher's maps given the student's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.losses.adapters import apply
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import need_taps, outlines
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.taps import checked_pairing, pair_taps, paired, to_common_size

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

LEAST_VARIANCE = 1e-5


def gaussian_information(predicted: Tensor, teacher_map: Tensor, *, variance: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian around `predicted`, both (B, C, H, W).

    "Variational Information Distillation for Knowledge Transfer" (Ahn et al., CVPR 2019, arXiv 1904.05835),
    Eq. 5: ((t - mu)^2 / variance + log variance) / 2, without the constant log(2 pi) / 2, averaged over batch,
    channels and positions (the paper sums). `variance` (C,) is positive; the value may be negative.
    """
    variance = at_least_float32(variance)[:, None, None]
    error = (at_least_float32(predicted) - at_least_float32(teacher_map)).square()
    return (error / variance + variance.log()).mean() / 2


class GaussianModel(nn.Module):
    """The teacher's map given the student's: a mean for every entry, a variance for every channel.

    The mean is three 1x1 convolutions without bias, ReLU between them, as wide as the teacher. The variance is
    softplus(`raw_variance`) + 1e-5, at first `variance`.
    """

    def __init__(self, student_channels: int, teacher_channels: int, *, variance: float) -> None:
        super().__init__()
        widths = (student_channels, teacher_channels, teacher_channels, teacher_channels)
        first, second, third = (nn.Conv2d(widths[i], widths[i + 1], 1, bias=False) for i in range(3))
        self.mean = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        start = variance - LEAST_VARIANCE
        # the inverse of softplus, in a form that does not overflow for a large variance
        self.raw_variance = nn.Parameter(torch.full((teacher_channels,), start + math.log(-math.expm1(-start))))

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Negative log-likelihood of `teacher_map`; of two sizes the larger map is pooled first."""
        ours, theirs = to_common_size(student_map, teacher_map)
        variance = functional.softplus(self.raw_variance) + LEAST_VARIANCE
        return gaussian_information(apply(self.mean, ours), theirs, variance=variance)


class VariationalInformation(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * sum over pairs of taps of the negative
    log-likelihood of the teacher's map, see `gaussian_information` for paper and equation.

    The taps are the stage outputs without the stem, in the pairs of `distill.losses.taps.pair_taps`. Each pair
    has its own `GaussianModel`, learned with the student; its variances start at `initial_variance`, 5 as in
    the authors' code. `feature` falls below 0 once variances do below 1. No gradient reaches the teacher.

    Raises ValueError if `initial_variance` <= 1e-5, a weight is negative, both are zero or a number is not finite;
    `attach` raises it if a network has fewer than two taps.
    """

    family = "vid"
    reads = ("features",)

    def __init__(
        self, *, initial_variance: float = 5.0, pairing: str = "size", ce_weight: float = 1.0, feature_weight: float
    ) -> None:
        super().__init__()
        faults = _variance_faults(initial_variance)
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.initial_variance = initial_variance
        self.pairing = checked_pairing(pairing)
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0
        self.models = nn.ModuleList()

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Builds a model for each pair of taps."""
        if self.needs_teacher:
            ours, theirs = need_taps(*outlines(student, teacher, task), least=2)
            channels = [
                (ours[i].shape[1], theirs[j].shape[1]) for i, j in pair_taps(ours, theirs, pairing=self.pairing)
            ]
            self.models = nn.ModuleList(GaussianModel(*pair, variance=self.initial_variance) for pair in channels)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            pairs = paired(student, teacher, pairing=self.pairing)
            losses = [model(*pair) for model, pair in zip(self.models, pairs, strict=True)]
            terms["feature"] = self.feature_weight * torch.stack(losses).sum()
        return terms


def _variance_faults(variance: float) -> list[str]:
    if LEAST_VARIANCE < variance < math.inf:
        return []
    rule = "finite" if variance == math.inf else f"> {LEAST_VARIANCE:g}"
    return [f"initial_variance must be {rule}, got {variance}: set loss.initial_variance to 5, the authors' value"]
