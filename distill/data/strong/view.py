"""What a strong view is, and the random numbers that decide one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.strong.operations import OPERATIONS


@dataclass(frozen=True)
class StrongView:
    """Random crop and flip, `ops` operations of RandAugment, Cutout: in this order, on uint8 pixels.

    ops     how many operations follow each other (RandAugment's N); each is drawn independently and uniformly
            from the 14, so one may come up twice, and each draws a magnitude of its own, uniform in its range
            (RandAugment's global M is not used: FixMatch, arXiv 2001.07685)
    cutout  largest side of the square, as a share of the image's: the side is uniform in 0..cutout
    fill    the square's RGB in 0..255; the default is ImageNet's mean colour, as in MLKD

    The defaults are MLKD's. ValueError unless ops >= 0, 0 <= cutout <= 1 and fill is three numbers in 0..255.
    """

    ops: int = 2
    cutout: float = 0.5
    fill: tuple[int, int, int] = (125, 123, 114)

    def __post_init__(self) -> None:
        fill = tuple(self.fill)  # a list from a configuration file: keys of streams must be hashable
        faults = []
        if self.ops < 0:
            faults.append(f"ops must be >= 0, got {self.ops}: set it to 0 for no operation before the cutout")
        if not 0 <= self.cutout <= 1:
            faults.append(f"cutout must be between 0 and 1, got {self.cutout}: set a share of the image's width")
        if len(fill) != 3 or not all(0 <= level <= 255 and level == int(level) for level in fill):
            faults.append(f"fill must be three whole numbers in 0..255, got {list(fill)}: set red, green and blue")
        if faults:
            raise ValueError("\n".join(faults))
        object.__setattr__(self, "fill", tuple(int(level) for level in fill))

    def draw(self, count: int, *, num_views: int, generator: torch.Generator) -> StrongDraws:
        """The numbers for `count` images, on the CPU; `num_views` crops and flips to choose from."""
        shape = (count, self.ops)
        return StrongDraws(
            view=torch.randint(num_views, (count,), generator=generator),
            operation=torch.randint(len(OPERATIONS), shape, generator=generator),
            magnitude=torch.rand(shape, generator=generator, dtype=torch.float64),
            square=torch.rand((count, 3), generator=generator, dtype=torch.float64),
        )


@dataclass(frozen=True)
class StrongDraws:
    """One row per image (N), on the CPU: a row decides its image's strong view alone.

    view       (N,) int64, number of the crop and flip
    operation  (N, ops) int64, positions in `OPERATIONS`
    magnitude  (N, ops) float64 in 0..1, where in the operation's range
    square     (N, 3) float64 in 0..1: the square's side over the largest, its centre's row and column
    """

    view: Tensor
    operation: Tensor
    magnitude: Tensor
    square: Tensor

    def since(self, position: int) -> StrongDraws:
        """The rows from `position` on."""
        first = slice(position, None)
        return StrongDraws(self.view[first], self.operation[first], self.magnitude[first], self.square[first])
