"""Neuron selectivity transfer: the student matches the distribution of the teacher's channel patterns."""

from __future__ import annotations

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


def neuron_selectivity(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels' unit patterns, mean over the batch: (B, C, H, W) each.

    "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer" (Huang and Wang 2017, arXiv
    1707.01219), section 4, with the polynomial kernel k(x, y) = (x . y + c)^d, d = 2, c = 0; the paper's factor
    1/2 is not inside. A sample's patterns are its C flattened channels, each divided by its norm: rows of S
    (C_s, N) and T (C_t, N), N = HW. With this kernel the mean of k over pairs of patterns is
    |S T'|_F^2 / (C_s C_t) = <S'S / C_s, T'T / C_t>_F, so

        MMD^2 = |S'S / C_s - T'T / C_t|_F^2

    and (N, N) takes the place of the (C, C) matrices wherever it is smaller. Nothing of size C^2 N is made.
    Channels may differ in number; of maps of different sizes the larger is pooled first.
    """
    student, teacher = to_common_size(at_least_float32(student_map), at_least_float32(teacher_map))
    s, t = unit(student.flatten(2)), unit(teacher.flatten(2))  # (B, C, N)
    (s_channels, positions), t_channels = s.shape[1:], t.shape[1]
    if 2 * positions**2 <= s_channels**2 + t_channels**2 + s_channels * t_channels:
        difference = s.mT @ s / s_channels - t.mT @ t / t_channels  # (B, N, N)
        return difference.square().sum(dim=(1, 2)).mean()
    return _kernel_mean(s, s) + _kernel_mean(t, t) - 2 * _kernel_mean(s, t)


def _kernel_mean(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.mT).square().mean()


class NeuronSelectivityTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * sum over pairs of taps of the discrepancy
    of their channels, see `neuron_selectivity` for paper, kernel and identity.

    The taps are the stage outputs without the stem, in the pairs of `distill.losses.taps.pair_taps`; of two
    sizes the larger map is pooled. All stages, summed, are how the field's tables run it. No gradient reaches the
    teacher.

    Raises ValueError if a weight is negative or not finite, or both are zero; `attach` raises it if a network
    has fewer than two taps.
    """

    family = "nst"
    reads = ("features",)

    def __init__(self, *, pairing: str = "size", ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
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
            discrepancies = [neuron_selectivity(s, t) for s, t in paired(student, teacher, pairing=self.pairing)]
            terms["feature"] = self.feature_weight * torch.stack(discrepancies).sum()
        return terms
