"""The levels of a knowledge review: what the student's maps become on the way from the deepest to the shallowest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.objectives.adapters import Normalize, convolution

Level = tuple[Tensor, Tensor]


class TopLevel(nn.Module):
    """The deepest level, above which there is nothing to fuse: a 1x1 and a 3x3 convolution, each with BatchNorm."""

    def __init__(self, channels_in: int, channels: int, channels_out: int) -> None:
        super().__init__()
        self.reduce = _uniform(channels_in, channels, 1)
        self.expand = _uniform(channels, channels_out, 3)

    def forward(self, maps: Tensor) -> Level:
        """For the loss (B, channels_out, H, W), and for the next level (B, channels, H, W)."""
        reduced = self.reduce(maps)
        return self.expand(reduced), reduced


class AttentionFusion(nn.Module):
    """ABF: a student's map fused with what the level above hands down, and brought to the teacher's shape.

    "Distilling Knowledge via Knowledge Review" (Chen et al., CVPR 2021, arXiv 2104.09044), section 3.3 and figure 3:
    a 1x1 convolution takes the map to `channels`; the level above is brought to its size; from both together a 1x1
    convolution and a sigmoid make two attention maps, which weigh their sum. The sum, brought to the teacher's size,
    is handed down, and goes through a 3x3 convolution to the loss. Sizes change by nearest neighbours, as in its code.
    """

    def __init__(self, channels_in: int, channels: int, channels_out: int, *, size: tuple[int, int]) -> None:
        """`channels_out` and `size` (H, W) are the teacher's."""
        super().__init__()
        self.size = size
        self.reduce = _uniform(channels_in, channels, 1)
        self.attend = nn.Conv2d(2 * channels, 2, 1)
        self.expand = _uniform(channels, channels_out, 3)

    def forward(self, maps: Tensor, above: Tensor) -> Level:
        """For the loss (B, channels_out, *size), and for the next level (B, channels, *size)."""
        ours = self.reduce(maps)
        above = _resized(above, tuple(ours.shape[2:]))
        attention = torch.sigmoid(self.attend(torch.cat([ours, above], dim=1)))  # (B, 2, H, W)
        fused = _resized(ours * attention[:, :1] + above * attention[:, 1:], self.size)
        return self.expand(fused), fused


def _uniform(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    layer = convolution(channels_in, channels_out, kernel)
    nn.init.kaiming_uniform_(layer.weight, a=1)
    return nn.Sequential(layer, Normalize(channels_out))


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == size else functional.interpolate(maps, size=size, mode="nearest")
