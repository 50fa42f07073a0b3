"""How a student is optimised: everything about the schedule that is not the loss."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Recipe:
    """One training schedule.

    Args:
        epochs: passes over the training images, at least 1.
        batch_size: images a step; the last, smaller batch of an epoch is kept.
        optimizer: builds the optimizer from the parameters (student's and objective's together).
        schedule: factor on the base learning rate from (epoch counted from 1, epochs).
        reference_epochs: the epochs in which papers write their ramps; `progress` is scaled to them, so that a
            ramp keeps its shape under a shortened recipe.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    schedule: Callable[[int, int], float]
    reference_epochs: int

    def __post_init__(self) -> None:
        low = [name for name in ("epochs", "batch_size", "reference_epochs") if getattr(self, name) < 1]
        if low:
            raise ValueError("\n".join(f"{n} must be >= 1, got {getattr(self, n)}: set recipe.{n}" for n in low))

    def progress(self, epochs_done: float) -> float:
        """Epochs done, with fraction, in units of the reference epochs."""
        return epochs_done * self.reference_epochs / self.epochs
