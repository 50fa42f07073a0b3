"""Learned temperatures (CTKD): modules that make the distillation harder while the student learns to follow it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from distill.losses.gradient_reversal import reverse_gradient
from distill.losses.precision import at_least_float32
from distill.objectives.checks import refuse


class GlobalTemperature(nn.Module):
    """One temperature for all samples: T = start + span * sigmoid(g), g a learned number, `initial` at first.

    Raises ValueError where `start` <= 0, `span` < 0 or a number is not finite.
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

    Raises ValueError where `start` <= 0, `span` < 0, `hidden` < 1 or a number is not finite.
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
