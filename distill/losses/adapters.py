"""Learned layers that bring a student's map to the teacher's channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from distill.losses.numeric import values_per_channel


class Normalize(nn.BatchNorm2d):
    """BatchNorm that also accepts a single value per channel while training, which has no deviation.

    torch raises an error for it. It occurs when an epoch's last batch has one image and the map is pooled to one cell.
    Such a batch is normalised by the running statistics and does not change them.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if self.training and values_per_channel(maps) == 1:
            return functional.batch_norm(
                maps, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(maps)


def convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """Convolution that keeps a map's size, without bias, because BatchNorm follows."""
    return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)


def connector(channels_in: int, channels_out: int) -> nn.Sequential:
    """1x1 convolution and BatchNorm, the weights normal of variance 2 / fan-out."""
    layer = convolution(channels_in, channels_out, 1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, Normalize(channels_out))


def apply(module: nn.Module, tensor: Tensor) -> Tensor:
    """`module(tensor)` in the number format of the module's weights.

    Under autocast, networks return half-typed maps; the learned parts of a method run outside autocast, in float32.
    """
    result: Tensor = module(tensor.to(next(module.parameters()).dtype))
    return result
