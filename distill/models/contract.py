"""The contract between networks and everything that uses them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Output:
    """What a network computes for a batch of B images. Without taps only `logits` is filled.

    logits          (B, K)
    features        the taps (B, C, H, W) that the network's literature distils, first to last
    preactivations  one entry a feature: the map whose ReLU the feature is, or, where the network distils raw maps
                    (`Network.features_are_activated` is False), the normalised map that the next block activates, or
                    the raw map itself where no block activates it; None where there is neither
    final_map       (B, C, H, W), the last map before pooling
    embedding       (B, D), what the classifier reads
    strong          the output on the strong view, filled by `on_both_views` for objectives with two views
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    preactivations: tuple[Tensor | None, ...] = ()
    final_map: Tensor | None = None
    embedding: Tensor | None = None
    strong: "Output | None" = None

    def with_full_logits(self) -> "Output":
        """The same with logits of at least float32, in which losses are computed: raised once for all of them."""
        kind = torch.promote_types(self.logits.dtype, torch.float32)
        strong = None if self.strong is None else self.strong.with_full_logits()
        return self if kind == self.logits.dtype else replace(self, logits=self.logits.to(kind), strong=strong)


class Network(nn.Module):
    """An image classifier: `network(images, taps=True) -> Output` for images (B, 3, H, W).

    feature_channels  channels of each of `Output.features`, () for a network that has only logits
    embedding_dim     D of `Output.embedding`, 0 where there is none
    num_classes       K of `Output.logits`
    head              the last linear layer, logits = head(embedding), None where there is no such layer
    features_are_activated
                      each feature that has a preactivation is its ReLU; False for networks whose taps are raw maps

    A network from elsewhere need not inherit: the first three attributes and the call are the contract.
    """

    feature_channels: tuple[int, ...] = ()
    embedding_dim: int = 0
    num_classes: int
    features_are_activated: bool = True

    @property
    def head(self) -> nn.Linear | None:
        """The submodule named `head`, or None; a subclass may override it."""
        return cast("nn.Linear | None", self._modules.get("head"))

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        raise NotImplementedError

    if TYPE_CHECKING:  # nn.Module.__call__ returns Any

        def __call__(self, images: Tensor, *, taps: bool = False) -> Output: ...


def on_both_views(network: Callable[..., Output], images: Tensor, strong: Tensor | None, *, taps: bool) -> Output:
    """The network's output on `images` (B, 3, H, W), holding its output on their strong view where there is one."""
    output = network(images, taps=taps)
    return output if strong is None else replace(output, strong=network(strong, taps=taps))


def check_num_classes(num_classes: int) -> None:
    """ValueError unless there is at least one class."""
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1, got {num_classes}: give the number of classes of the data")
