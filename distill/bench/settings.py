"""What is to be measured, and how much of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Images of an epoch, steps of a window, rounds that count and those before, worker processes of the peer's."""

    images: int
    steps: int
    rounds: int
    warm_up: int
    workers: int

    @property
    def run_in(self) -> int:
        """Steps of the peer's before a window that are not timed: its workers had the time before to run ahead."""
        return 4 if self.workers else 0


# a GPU's windows are long, since it works through a queue; its peer has two workers, as the field has
ON_CPU = Sizes(images=2048, steps=4, rounds=9, warm_up=1, workers=0)
ON_GPU = Sizes(images=2048, steps=50, rounds=20, warm_up=3, workers=2)


@dataclass(frozen=True)
class Settings:
    """A pair and how it is measured; a child process is given them as JSON.

    `evaluation_batch` and `table_batch` are the images that `distill train` evaluates, and asks for a table, at once.
    """

    experiment: str
    precision: str
    device: str
    config_dir: str | None
    sizes: Sizes
    evaluation_batch: int
    table_batch: int
