"""A recipe: epochs, batch size, optimizer and learning-rate schedule; every training setting except the loss."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch


def _warm_up(done: float, *, share: float, start: float) -> float:
    """The factor of a linear warm-up over the first `share` of the training, of which `done` is done."""
    return 1.0 if done >= share else start + (1 - start) * done / share


def _warm_up_faults(*, warmup: float, warmup_start: float) -> list[str]:
    faults = []
    if not 0 <= warmup < 1:
        text = f"warmup must be a share of the training in [0, 1), got {warmup}"
        faults.append(f"{text}: set recipe.schedule.warmup")
    if not 0 < warmup_start <= 1:
        faults.append(f"warmup_start must be in (0, 1], got {warmup_start}: set recipe.schedule.warmup_start")
    return faults


@dataclass(frozen=True)
class Steps:
    """Multiply the learning rate by `gamma` after each milestone, times a linear warm-up.

    Args:
        milestones: fractions of the training, each in (0, 1), so that a shortened recipe keeps its shape. The
            field's 150, 180 and 210 of 240 epochs are 0.625, 0.75 and 0.875. With epochs counted from 1 a drop
            holds where `epoch > milestone * epochs`: at 240 epochs from epochs 151, 181 and 211 on.
        gamma: the factor.
        warmup, warmup_start: as of `Cosine`; at 0, the default, there is no warm-up.
    """

    milestones: tuple[float, ...]
    gamma: float = 0.1
    warmup: float = 0.0
    warmup_start: float = 0.001

    def __post_init__(self) -> None:
        faults = [
            f"milestones are fractions of the training between 0 and 1, got {milestone}: "
            "write epoch 150 of 240 as 0.625 in recipe.schedule.milestones"
            for milestone in self.milestones
            if not 0 < milestone < 1
        ][:1]
        if not self.gamma > 0:
            faults.append(f"gamma must be > 0, got {self.gamma}: set recipe.schedule.gamma, for example to 0.1")
        faults += _warm_up_faults(warmup=self.warmup, warmup_start=self.warmup_start)
        if faults:
            raise ValueError("\n".join(faults))

    def __call__(self, epoch: int, epochs: int) -> float:
        """The factor on the base learning rate in `epoch` (counted from 1) of `epochs`."""
        # 0.29 * 100 is 28.999...: rounded, or the rate would fall an epoch early
        factor = self.gamma ** sum(epoch > round(milestone * epochs, 6) for milestone in self.milestones)
        return factor * _warm_up((epoch - 1) / epochs, share=self.warmup, start=self.warmup_start)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `final` over the training, times a linear warm-up.

    "SGDR" (Loshchilov and Hutter 2017, arXiv 1608.03983), Eq. 5 without restarts, an epoch at a time. While the share
    of the training that is done is below `warmup`, a factor that grows from `warmup_start` to 1 is multiplied on.

    Args:
        final: the factor towards which the training ends, in [0, 1].
        warmup: share of the training that warms up, in [0, 1): 20 of 300 epochs are 1/15.
        warmup_start: the warm-up's first factor, in (0, 1].
    """

    final: float = 0.0
    warmup: float = 0.0
    warmup_start: float = 0.001

    def __post_init__(self) -> None:
        faults = _warm_up_faults(warmup=self.warmup, warmup_start=self.warmup_start)
        if not 0 <= self.final <= 1:
            faults.append(f"final must be between 0 and 1, got {self.final}: set recipe.schedule.final")
        if faults:
            raise ValueError("\n".join(faults))

    def __call__(self, epoch: int, epochs: int) -> float:
        """The factor on the base learning rate in `epoch` (counted from 1) of `epochs`."""
        done = (epoch - 1) / epochs
        cosine = self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        return cosine * _warm_up(done, share=self.warmup, start=self.warmup_start)


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
        label_smoothing: share of the label that the cross-entropy of every loss spreads evenly over all classes, in
            [0, 1).
        ema: decay of an exponential moving average of the weights, in (0, 1), e.g. 0.9999; None for none. The average
            is evaluated beside the weights themselves and saved apart from them.
        batch_norm: where several processes share a batch, `global` takes BatchNorm's mean and variance over all of it,
            `local` over each process's part, as torch's data-parallel training does.
    """

    epochs: int
    batch_size: int
    optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
    schedule: Callable[[int, int], float]
    reference_epochs: int
    label_smoothing: float = 0.0
    ema: float | None = None
    batch_norm: Literal["global", "local"] = "global"

    def __post_init__(self) -> None:
        low = [name for name in ("epochs", "batch_size", "reference_epochs") if getattr(self, name) < 1]
        faults = [f"{name} must be >= 1, got {getattr(self, name)}: set recipe.{name}" for name in low]
        if not 0 <= self.label_smoothing < 1:
            text = f"label_smoothing must be >= 0 and < 1, got {self.label_smoothing}"
            faults.append(f"{text}: set recipe.label_smoothing, e.g. to 0.1")
        if self.ema is not None and not 0 < self.ema < 1:
            faults.append(f"ema must be > 0 and < 1, got {self.ema}: set recipe.ema, e.g. to 0.9999, or to null")
        if self.batch_norm not in ("global", "local"):
            faults.append(f"batch_norm must be global or local, got {self.batch_norm}: set recipe.batch_norm=global")
        if faults:
            raise ValueError("\n".join(faults))

    def progress(self, epochs_done: float) -> float:
        """Epochs done, with fraction, in units of the reference epochs."""
        return epochs_done * self.reference_epochs / self.epochs
