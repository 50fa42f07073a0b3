"""The teacher interface, and the teacher that runs its network on every batch."""

import copy
from collections.abc import Hashable
from typing import Protocol

import torch
from torch import nn

from distill.data import Batch
from distill.models import Output, on_both_views
from distill.models.autocast_weights import with_cast_weights


class Teacher(Protocol):
    """`teacher(batch)` gives its `Output` without a gradient.

    Teachers with equal `key` (weights, precision, taps, source) give equal outputs, so that a cohort runs one of
    them only. `network` is the network behind it, for objectives that read its shapes or take a part of it.
    """

    @property
    def key(self) -> Hashable: ...
    @property
    def network(self) -> nn.Module: ...
    def __call__(self, batch: Batch) -> Output: ...


class LiveTeacher:
    """A frozen network in eval mode, or with BatchNorm in training mode where `batch_statistics` is set.

    Args:
        network: the network with its weights; its parameters stop requiring gradients.
        weights: the digest of its weights.
        precision: `fp32` or `bf16` (autocast).
        taps: whether objectives need more than logits.
        fast: gives the same logits and nothing else, in less time (`distill.models.folded`): where there are no taps
            it is run in the network's place. Objectives get the network itself.
        batch_statistics: BatchNorm uses each batch's own mean and variance, on a copy whose buffers stay as they are.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weights: str,
        precision: str,
        taps: bool,
        fast: nn.Module | None = None,
        batch_statistics: bool = False,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self._run = self.network if fast is None or taps else fast.eval().requires_grad_(False)
        form = "as it is" if self._run is self.network else "folded"
        if batch_statistics:
            self._run, form = with_batch_statistics(self.network), "batch statistics"
        if precision == "bf16":
            self._run = with_cast_weights(self._run)
        self.key: Hashable = ("live", weights, precision, taps, form)
        self._bf16, self._taps = precision == "bf16", taps

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            output = on_both_views(self._run, batch.images, batch.strong, taps=self._taps)
        return output.with_full_logits()

    def compile(self) -> None:
        """Compile the network that is run; its weights stay as they are."""
        self._run.compile(dynamic=False)


def with_batch_statistics(network: nn.Module) -> nn.Module:
    """A frozen copy whose BatchNorm layers use the statistics of each batch and leave their buffers unchanged."""
    changed = copy.deepcopy(network).eval().requires_grad_(False)
    for module in changed.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.track_running_stats = False  # the running statistics are neither read nor written
    return changed
