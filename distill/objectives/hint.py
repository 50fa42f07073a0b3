"""Labels plus a hint: one of the teacher's maps, regressed from the student's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.maps import hint
from distill.objectives.checks import refuse, weight_faults
from distill.objectives.feature_terms import given, label_term, need_taps, outlines
from distill.objectives.learned import apply, resizing_convolution
from distill.objectives.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output


class HintRegression(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * hint(regressor(student), teacher), of
    `distill.losses.maps` (which names paper and equation).

    The hint is tap number `hint_layer` of both networks, counted from 0, the stem: with the field's 2, the second
    stage. The regressor is a convolution to the teacher's channels and size (1x1, strided or transposed, see
    `distill.objectives.learned.resizing_convolution`), BatchNorm and ReLU. Variant: the paper trains the lower
    layers on the hint first and everything on KD afterwards; as in the field's tables, here labels and hint are
    learned together in one run. The ReLU is the field's too: where a teacher's taps are raw maps (WRN), their
    negative part stays out of reach. No gradient reaches the teacher.

    Raises ValueError where `hint_layer` < 0, a weight is negative or not finite, or both are zero; `attach` raises it
    where a network has no tap of that number.
    """

    logits_only = False
    regressor: nn.Sequential

    def __init__(self, *, hint_layer: int = 2, ce_weight: float = 1.0, feature_weight: float) -> None:
        super().__init__()
        faults = [] if hint_layer >= 0 else [_layer_fault(hint_layer)]
        refuse([*faults, *weight_faults(ce_weight=ce_weight, feature_weight=feature_weight)])
        self.hint_layer = hint_layer
        self.ce_weight = ce_weight
        self.feature_weight = feature_weight
        self.needs_teacher = feature_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Builds the regressor."""
        if self.needs_teacher:
            ours, theirs = need_taps(*outlines(student, teacher, task), least=self.hint_layer + 1)
            shapes = tuple(ours[self.hint_layer].shape), tuple(theirs[self.hint_layer].shape)
            self.regressor = nn.Sequential(resizing_convolution(*shapes), nn.BatchNorm2d(shapes[1][1]), nn.ReLU())

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only where its weight is positive; progress is not read."""
        terms = label_term(student, batch, ce_weight=self.ce_weight)
        if self.feature_weight > 0:
            target = given(teacher).features[self.hint_layer].detach()
            guess = apply(self.regressor, student.features[self.hint_layer])
            terms["feature"] = self.feature_weight * hint(guess, target)
        return terms


def _layer_fault(layer: int) -> str:
    return f"hint_layer must be >= 0, got {layer}: set loss.hint_layer to 2, the field's value"
