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
        wrong = [m for m in self.milestones if not 0 < m < 1]
        if wrong:
            raise ValueError(
                f"milestones are fractions of the training between 0 and 1, got {wrong[0]}: "
                "write epoch 150 of 240 as 0.625 in recipe.schedule.milestones"
            )
        if self.gamma <= 0:
            raise ValueError(f"gamma must be > 0, got {self.gamma}: set recipe.schedule.gamma to 0.1, say")

    def __call__(self, epoch: int, epochs: int) -> float:
        """The factor on the base learning rate in `epoch` (counted from 1) of `epochs`."""
        return self.gamma ** sum(epoch > milestone * epochs for milestone in self.milestones)
