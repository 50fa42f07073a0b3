"""CTKD: a temperature that is learned against the student, so that distillation becomes harder as it learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from distill.losses.checks import refuse, weight_faults
from distill.losses.networks import both_logits, need_teacher
from distill.losses.numeric import at_least_float32
from distill.losses.objective import Objective, Task
from distill.losses.ramps import cosine_ramp, ramp_faults
from distill.losses.softened import kl_rows, log_softened
from distill.losses.transforms import identity

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Network, Output


def reverse_gradient(value: Tensor, *, strength: float | Tensor) -> Tensor:
    """`value` itself, with its gradient times -`strength`.

    "Unsupervised Domain Adaptation by Backpropagation" (Ganin and Lempitsky, ICML 2015, arXiv 1409.7495): what
    minimises the loss downstream maximises it upstream. The difference added is exactly zero, so that the
    value is kept to the last bit.
    """
    return value.detach() - strength * (value - value.detach())


def kd_by_sample(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Vanilla KD in which every sample may have its own temperature: mean over the batch of T_i^2 KL_i.

    `temperature` is a number, a 0-d tensor (then this is `kd`) or (B, 1). The gradient
    with respect to it runs through T^2 as well as through both softmaxes.
    """
    log_student, log_teacher = log_softened(student_logits, temperature), log_softened(teacher_logits, temperature)
    # keepdim by indexing: (B, 1) meets (B, 1) or a scalar, and never becomes (B, B)
    return (kl_rows(log_student, log_teacher)[:, None] * temperature * temperature).mean()


class GlobalTemperature(nn.Module):
    """One temperature for all samples: T = start + span * sigmoid(g), g a learned number, `initial` at first.

    Raises ValueError if `start` <= 0, `span` < 0 or a number is not finite.
    """

    def __init__(self, *, start: float, span: float, initial: float = 1.0) -> None:
        super().__init__()
        refuse(_range_faults(start, span, initial))
        self.start = start
        self.span = span
        self.g = nn.Parameter(torch.tensor(float(initial)))

    def attach(self, *, num_classes: int) -> None:
        """Nothing depends on the networks."""

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, *, strength: Tensor) -> Tensor:
        """T, a 0-d tensor; its gradient reaches g reversed and times `strength` (0-d)."""
        return self.start + self.span * reverse_gradient(self.g, strength=strength).sigmoid()


class InstanceTemperature(nn.Module):
    """A temperature for every sample: T_i = start + span * sigmoid(MLP(student's and teacher's logits)).

    The MLP has two linear layers with a ReLU between them and reads both networks' logits side by side. Student
    logits enter without their graph: only the MLP plays against the loss, not, through it, the student itself.
    The bias of the last layer starts at `initial`, so temperatures start around those of `GlobalTemperature`.

    Raises ValueError if `start` <= 0, `span` < 0, `hidden` < 1 or a number is not finite.
    """

    def __init__(self, *, start: float, span: float, hidden: int = 128, initial: float = 1.0) -> None:
        super().__init__()
        faults = [*_range_faults(start, span, initial)]
        if not hidden >= 1:
            faults.append(f"hidden must be >= 1, got {hidden}: set loss.temperature_module.hidden to a whole number")
        refuse(faults)
        self.start = start
        self.span = span
        self.hidden = hidden
        self.initial = initial
        self.mlp = nn.Sequential()

    def attach(self, *, num_classes: int) -> None:
        """Size the MLP to logits of `num_classes` (K) classes, the student's and the teacher's."""
        last = nn.Linear(self.hidden, 1)
        nn.init.constant_(last.bias, self.initial)
        self.mlp = nn.Sequential(nn.Linear(2 * num_classes, self.hidden), nn.ReLU(), last)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, *, strength: Tensor) -> Tensor:
        """T (B, 1) of logits (B, K) each; its gradient reaches the MLP reversed and times `strength` (0-d)."""
        both = torch.cat([at_least_float32(side.detach()) for side in (student_logits, teacher_logits)], dim=-1)
        return self.start + self.span * reverse_gradient(self.mlp(both), strength=strength).sigmoid()


def _range_faults(start: float, span: float, initial: float) -> Iterable[str]:
    if not 0 < start < math.inf:
        rule = "finite" if start == math.inf else "> 0"
        yield f"start must be {rule}, got {start}: set loss.temperature_module.start to a positive number"
    if not 0 <= span < math.inf:
        rule = "finite" if span == math.inf else ">= 0"
        yield f"span must be {rule}, got {span}: set loss.temperature_module.span to zero or a positive number"
    if not math.isfinite(initial):
        yield f"initial must be finite, got {initial}: set loss.temperature_module.initial to a number"


class CurriculumKD(Objective):
    """`ce` + `kd`: ce_weight * CE + kd_weight * T^2 KL, T from `temperature_module`, which raises the KD term.

    "Curriculum Temperature for Knowledge Distillation" (Li et al., AAAI 2023, arXiv 2211.16231). The module's
    gradient is reversed and times lambda_e = (1 - cos(pi min(e / ramp_epochs, 1))) / 2 in epoch e: easy at first,
    then as hard as the temperature can make it. It shares the student's optimizer, weight decay included, as in
    the authors' code; the student's own gradient is that of KD at the temperature of the moment. T^2 is inside
    and takes part in the module's gradient. `transform` is applied to the logits of both sides before the KL, the
    z-score for instance; the module and CE see raw logits.

    Raises ValueError if a weight is negative, both are zero, `ramp_epochs` < 1 or a number is not finite.
    """

    family = "ctkd"
    reads = ("logits",)

    def __init__(
        self,
        *,
        temperature_module: GlobalTemperature | InstanceTemperature,
        ce_weight: float,
        kd_weight: float,
        ramp_epochs: int,
        transform: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        super().__init__()
        refuse([*weight_faults(ce_weight=ce_weight, kd_weight=kd_weight), *ramp_faults(ramp_epochs)])
        self.temperature_module = temperature_module
        self.ce_weight = ce_weight
        self.kd_weight = kd_weight
        self.ramp_epochs = ramp_epochs
        self.transform = transform
        self.needs_teacher = kd_weight > 0

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        """Size the temperature module to the number of classes; ValueError if there is no teacher."""
        if self.needs_teacher:
            need_teacher(teacher)
            self.temperature_module.attach(num_classes=cast("Network", student).num_classes)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        """The terms `ce` and `kd`, each only if its weight is positive."""
        terms = self.label_term(student, batch)
        if self.kd_weight > 0:
            sides = both_logits(student, teacher)
            strength = cosine_ramp(progress, epochs=self.ramp_epochs)
            temperature = self.temperature_module(*sides, strength=strength)
            transformed = (self.transform(side) for side in sides)
            terms["kd"] = self.kd_weight * kd_by_sample(*transformed, temperature=temperature)
        return terms
