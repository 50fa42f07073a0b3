"""Flow of the solution procedure: inner products between one feature map and the next."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import need_taps, outlines, require_output
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.taps import to_common_size

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


def flow_matrix(lower: Tensor, upper: Tensor) -> Tensor:
    """The FSP matrix (B, C_lower, C_upper): inner products of channels, mean over positions.

    "A Gift from Knowledge Distillation" (Yim et al., CVPR 2017), Eq. 1. Maps are (B, C, H, W); of different sizes the
    larger is averaged down.
    """
    one, other = to_common_size(at_least_float32(lower), at_least_float32(upper))
    return torch.einsum("bihw,bjhw->bij", one, other) / one[0, 0].numel()


def solution_flow(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Squared distance of the FSP matrices of two pairs of maps (lower, upper), each (B, C, H, W).

    "A Gift from Knowledge Distillation" (Yim et al., CVPR 2017), Eq. 2 for one pair of layers, with the mean over the
    matrix in place of the sum, as in the field's tables. The channels of both sides are equal; sizes need not be.
    Mean over the batch of per-sample terms.
    """
    return (flow_matrix(*student) - flow_matrix(*teacher)).square().mean()


class SolutionFlow(Objective):
    """`feature`, feature_weight * sum over consecutive taps of `solution_flow`; with ce_weight > 0 also `ce`.

    "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning" (Yim et al.,
    CVPR 2017), section 3: the inner products between one tap and the next, the stem with the first stage and so on. The
    paper trains the student on it first and on the labels afterwards: preset `fsp` does so, this being its first stage.
    The preset `fsp` has weight 1: RepDistiller, which made the field's numbers, trains the first stage unweighted; its
    50 belongs to the second stage.

    No adapter is learned, so the student's taps need the teacher's channels.

    Raises ValueError if the weights are negative or all zero; from `attach` if the networks differ in the number
    of their taps or in the channels of any.
    """

    family = "fsp"
    reads = ("features",)

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
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            ours, theirs = need_taps(student, require_output(teacher), least=2)
            flows = zip(pairwise(ours), pairwise(theirs), strict=True)
            distances = [solution_flow(s, (lower.detach(), upper.detach())) for s, (lower, upper) in flows]
            terms["feature"] = self.feature_weight * torch.stack(distances).sum()
        return terms
