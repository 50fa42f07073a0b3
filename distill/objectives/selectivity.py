"""Labels plus the distribution of the teacher's channel patterns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.maps import neuron_selectivity
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import label_term, need_taps, outlines
from distill.objectives.objective import Objective, Task
from distill.objectives.taps import paired

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class NeuronSelectivityTransfer(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * sum over pairs of taps of the discrepancy
    of their channels, `distill.losses.maps.neuron_selectivity` (which names paper, kernel and identity).

    The taps are the stage outputs without the stem, in the pairs of `distill.objectives.taps.pair_taps`; of two
    sizes the larger map is pooled. All stages, summed, are how the field's tables run it. No gradient reaches the
    teacher.

    Raises ValueError where a weight is negative or not finite, or both are zero; `attach` raises it where a network
    has fewer than two taps.
    """

    logits_only = False

    def __init__(self, *, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
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
            discrepancies = [neuron_selectivity(s, t) for s, t in paired(student, teacher)]
            terms["feature"] = self.feature_weight * torch.stack(discrepancies).sum()
        return terms
