"""A teacher with a paraphraser beside it: what the first stage of factor transfer trains."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Self

from torch import Tensor, nn

from distill.models.contract import Network, Output
from distill.objectives.adapters import Normalize

SLOPE = 0.1  # of the leaky ReLU below zero, the paper's


def factor_channels(channels: int, rate: float) -> int:
    """Channels of a factor: the paper's k times those of the teacher's map, at least 1."""
    return max(1, round(channels * rate))


def encoder(channels_in: int, channels_out: int) -> nn.Sequential:
    """Three 3x3 convolutions with BatchNorm and leaky ReLU, the second of which goes to `channels_out`."""
    widths = (channels_in, channels_in, channels_out, channels_out)
    return nn.Sequential(*(_step(nn.Conv2d, i, o) for i, o in pairwise(widths)))


def decoder(channels_in: int, channels_out: int) -> nn.Sequential:
    """The way back: three transposed 3x3 convolutions of the same kind."""
    widths = (channels_in, channels_in, channels_out, channels_out)
    return nn.Sequential(*(_step(nn.ConvTranspose2d, i, o) for i, o in pairwise(widths)))


def _step(layer: type[nn.Conv2d] | type[nn.ConvTranspose2d], channels_in: int, channels_out: int) -> nn.Sequential:
    convolution = layer(channels_in, channels_out, 3, padding=1)
    return nn.Sequential(convolution, Normalize(channels_out), nn.LeakyReLU(SLOPE, inplace=True))


class Paraphrased(Network):
    """A frozen network, and an autoencoder of its last tap: encoder `paraphraser.0`, decoder `paraphraser.1`.

    With taps, `features` are two maps (B, C, H, W): that tap, and what the paraphraser makes of it. Everything else is
    the network's own, which stays in eval mode. `network` is copied.
    """

    def __init__(self, network: Network, *, channels: int, rate: float) -> None:
        super().__init__()
        self.num_classes, self.embedding_dim = network.num_classes, network.embedding_dim
        self.feature_channels = (channels, channels)
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        narrow = factor_channels(channels, rate)
        self.paraphraser = nn.Sequential(encoder(channels, narrow), decoder(narrow, channels))

    @property
    def head(self) -> nn.Linear | None:
        return self.network.head

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        if not taps:
            output: Output = self.network(images)
            return output
        seen: Output = self.network(images, taps=True)
        original = seen.features[-1]
        rebuilt = self.paraphraser(original.to(next(self.paraphraser.parameters()).dtype))
        return Output(seen.logits, (original, rebuilt), (None, None), seen.final_map, seen.embedding)
