"""The teacher's side of a logit objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from distill.models import Output


def teacher_logits(teacher: Output | None) -> Tensor:
    """The teacher's logits (B, K), cut from its graph; ValueError where an objective was given no teacher.

    Detached here and not in the losses: those are pure functions of two arguments, differentiable in both.
    """
    if teacher is None:
        raise ValueError("teacher must be an output, got None: this objective needs one, choose teacher=NAME")
    return teacher.logits.detach()
