"""FitNets: one of the teacher's feature maps, regressed from the student's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from distill.losses.adapters import Normalize, apply
from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import need_taps, outlines, require_output
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output

Shape = tuple[int, ...]


def hint(predicted: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of a hint: the average over batch, channels and positions. Both (B, C, H, W).

    "FitNets: Hints for Thin Deep Nets" (Romero et al., ICLR 2015, arXiv 1412.6550), Eq. 3, as the field runs it:
    without the factor 1/2, and with the mean in place of the sum over the map. `predicted` is the
    regressor's output for the student's map.
    """
    return (at_least_float32(predicted) - at_least_float32(teacher_map)).square().mean()


def resizing_convolution(student: Shape, teacher: Shape, *, bias: bool = True) -> nn.Module:
    """A learned map from the student's (B, C, H, W) to the teacher's: its channels, height and width.

    equal sizes                   1x1 convolution
    student r times as large      convolution with stride r, kernel 2r - 1 (3x3 for r = 2)
    teacher r times as large      transposed convolution with stride r, kernel r + 2 [r/2] (4x4 for r = 2)
    anything else                 adaptive average pooling to the teacher's size, then a 1x1 convolution

    The first three are those of the field's code for r = 1 and 2, continued to every whole r; height and width must
    have the same r.
    """
    channels, size = (student[1], teacher[1]), (teacher[2], teacher[3])
    smaller, larger = sorted([(student[2], student[3]), size])
    ratio = larger[0] // smaller[0]
    if larger != (ratio * smaller[0], ratio * smaller[1]):
        return nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.Conv2d(*channels, 1, bias=bias))
    if larger == size and ratio > 1:
        padding = ratio // 2
        return nn.ConvTranspose2d(*channels, ratio + 2 * padding, stride=ratio, padding=padding, bias=bias)
    return nn.Conv2d(*channels, 2 * ratio - 1, stride=ratio, padding=ratio - 1, bias=bias)


class HintRegression(Objective):
    """`ce` + `feature`: ce_weight * CE(student, labels) + feature_weight * hint(regressor(student), teacher), see
    `hint` for paper and equation.

    The hint is tap number `hint_layer` of both networks, counted from 0, the stem: with the field's 2, the second
    stage. The regressor is a convolution to the teacher's channels and size (1x1, strided or transposed, see
    `resizing_convolution`), BatchNorm and ReLU. Variant: the paper trains the lower
    layers on the hint first and everything on KD afterwards; as in the field's tables, here labels and hint are
    learned together in one run. The ReLU is the field's too: if a teacher's taps are raw maps (WRN), their
    negative part cannot be matched. No gradient reaches the teacher.

    Raises ValueError if `hint_layer` < 0, a weight is negative or not finite, or both are zero; `attach` raises it
    if a network has no tap of that number.
    """

    family = "fitnet"
    reads = ("features",)
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
            self.regressor = nn.Sequential(resizing_convolution(*shapes), Normalize(shapes[1][1]), nn.ReLU())

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `feature`, each only if its weight is positive; `progress` is unused."""
        terms = self.label_term(student, batch)
        if self.feature_weight > 0:
            target = require_output(teacher).features[self.hint_layer].detach()
            guess = apply(self.regressor, student.features[self.hint_layer])
            terms["feature"] = self.feature_weight * hint(guess, target)
        return terms


def _layer_fault(layer: int) -> str:
    return f"hint_layer must be >= 0, got {layer}: set loss.hint_layer to 2, the field's value"
