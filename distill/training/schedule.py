"""Learning-rate schedules: functions of the epoch and the number of epochs, never of the clock."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """Multiply the learning rate by `gamma` after each milestone.

    Args:
        milestones: fractions of the training, each in (0, 1), so that a shortened recipe keeps its shape. The
            field's 150, 180 and 210 of 240 epochs are 0.625, 0.75 and 0.875. With epochs counted from 1 a drop
            holds where `epoch > milestone * epochs`: at 240 epochs from epochs 151, 181 and 211 on.
        gamma: the factor.
    """

    milestones: tuple[float, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        faults = [
            f"milestones are fractions of the training between 0 and 1, got {milestone}: "
            "write epoch 150 of 240 as 0.625 in recipe.schedule.milestones"
            for milestone in self.milestones
            if not 0 < milestone < 1
        ][:1]
        if not self.gamma > 0:
            faults.append(f"gamma must be > 0, got {self.gamma}: set recipe.schedule.gamma to 0.1, say")
        if faults:
            raise ValueError("\n".join(faults))

    def __call__(self, epoch: int, epochs: int) -> float:
        """The factor on the base learning rate in `epoch` (counted from 1) of `epochs`."""
        return self.gamma ** sum(epoch > milestone * epochs for milestone in self.milestones)
