"""The first stage of the flow of the solution procedure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.flow import solution_flow
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import given, label_term, need_taps, outlines
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class SolutionFlow(Objective):
    """`feature`, feature_weight * sum over consecutive taps of `solution_flow`; with ce_weight > 0 also `ce`.

    "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning" (Yim et al.,
    CVPR 2017), section 3: the inner products between one tap and the next, the stem with the first stage and so on. The
    paper trains the student on it first and on the labels afterwards: preset `fsp` does so, this being its first stage.
    Nothing is learned beside the student, so its taps need the teacher's channels.

    Raises ValueError where the weights are negative or all zero; from `attach` where the networks differ in the number
    of their taps or in the channels of any.
    """

    logits_only = False

    def __init__(self, *, ce_weight: float = 0.0, feature_weight: float = 50.0) -> None:
        super().__init__()
        refuse(weight_faults(ce_weight=ce_weight, feature_weight=feature_weight))
        self.ce_weight, self.feature_weight = ce_weight, feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Refuses networks whose matrices cannot be compared; there is nothing to learn."""
        if self.needs_teacher:
            pair = need_taps(*outlines(student, teacher, task), least=2)
            ours, theirs = ([tap.shape[1] for tap in taps] for taps in pair)
            if ours != theirs:
                raise ValueError(
                    "the student's taps must have the teacher's channels, one by one, got "
                    f"{', '.join(map(str, ours))} for {', '.join(map(str, theirs))}: choose networks of equal widths"
                )

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            ours, theirs = need_taps(student, given(teacher), least=2)
            flows = zip(pairwise(ours), pairwise(theirs), strict=True)
            distances = [solution_flow(s, (lower.detach(), upper.detach())) for s, (lower, upper) in flows]
            terms["feature"] = self.feature_weight * torch.stack(distances).sum()
        return terms
