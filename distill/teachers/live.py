"""A teacher run live: the frozen network on the student's own batch."""

from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import nn

from distill.data import Batch
from distill.models import Output


class LiveTeacher:
    """A frozen network in eval mode.

    Args:
        network: the network with its weights; its parameters stop requiring gradients.
        weights: the digest of its weights.
        precision: `fp32` or `bf16` (autocast).
        taps: whether objectives need more than logits.
    """

    def __init__(self, network: nn.Module, *, weights: str, precision: str, taps: bool) -> None:
        self.network = network.eval().requires_grad_(False)
        self.key: Hashable = ("live", weights, precision, taps)
        self._bf16, self._taps = precision == "bf16", taps

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            output: Output = self.network(batch.images, taps=self._taps)
            if batch.strong is None:
                return output
            return replace(output, strong=self.network(batch.strong, taps=self._taps))
