"""Factors between 0 and 1 that bring a term in over the first epochs; they scale with a shortened recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def linear_ramp(progress: Tensor, *, epochs: int) -> Tensor:
    """min(e / epochs, 1) in epoch e = 1, 2, ..., a 0-d tensor: constant within an epoch, 1 from epoch `epochs` on.

    `progress` is the number of epochs done, with fraction, in epochs of the paper's recipe. `epochs=1` is no ramp.
    """
    return ((progress.floor() + 1) / epochs).clamp(max=1)


def cosine_ramp(progress: Tensor, *, epochs: int) -> Tensor:
    """(1 - cos(pi min(e / epochs, 1))) / 2 in epoch e = 1, 2, ...; otherwise as `linear_ramp`."""
    return (1 - torch.cos(math.pi * linear_ramp(progress, epochs=epochs))) / 2


def ramp_faults(ramp_epochs: int) -> Iterable[str]:
    """A sentence unless `ramp_epochs` >= 1."""
    if not ramp_epochs >= 1:
        yield f"ramp_epochs must be >= 1, got {ramp_epochs}: set loss.ramp_epochs to 1 for no ramp"
