"""Convolutions with BatchNorm that carry a student's map to the teacher's channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Normalize(nn.BatchNorm2d):
    """BatchNorm that also trains on a single value per channel, where there is no deviation to divide by.

    A data set may leave one image for an epoch's last batch, and a pooled map has one cell: torch refuses that. Such a
    batch is normalised by the running statistics and does not change them.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if self.training and maps.numel() == maps.shape[1]:
            return functional.batch_norm(
                maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(maps)


def convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution without bias, since BatchNorm follows, that keeps a map's size."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)


def connector(channels_in: int, channels_out: int) -> nn.Sequential:
    """1x1 convolution and BatchNorm, the weights normal of variance 2 / fan-out."""
    layer = convolution(channels_in, channels_out, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, Normalize(channels_out))


def projector(channels_in: int, channels_out: int, *, reduction: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, each with BatchNorm and ReLU; channels_out / reduction channels in between."""
    middle = max(channels_out // reduction, 1)
    shapes = (channels_in, middle, 1), (middle, middle, 3), (middle, channels_out, 1)
    steps = ((convolution(*shape), Normalize(shape[1]), nn.ReLU(inplace=True)) for shape in shapes)
    return nn.Sequential(*(layer for step in steps for layer in step))
