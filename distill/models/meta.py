"""Copies of networks on the meta device: shapes without arithmetic, memory or side effects."""

import copy
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from distill.models.contract import Network, Output

# of the networks that `shapes_of` made, by image size and batch
_OUTLINES: WeakKeyDictionary[nn.Module, dict[tuple[int, int], Output]] = WeakKeyDictionary()


def meta_copy(network: nn.Module) -> nn.Module:
    """A copy of `network` in eval mode whose tensors are on the meta device and want no gradient.

    The original is not touched (neither mode nor BatchNorm statistics), and no weight is ever copied: the
    memo tells deepcopy what to put in the place of each tensor.
    """
    memo: dict[int, object] = {}
    for module in network.modules():
        held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        for tensor in held:
            if isinstance(tensor, Tensor):
                memo[id(tensor)] = _on_meta(tensor)
    return copy.deepcopy(network, memo).eval()


def shapes_of(network: nn.Module) -> nn.Module:
    """A `meta_copy` for checks, which never change it: each of its outlines is drawn once."""
    copied = meta_copy(network)
    _OUTLINES[copied] = {}
    return copied


def meta_images(image_size: int, *, batch: int = 1) -> Tensor:
    """Images (B, 3, S, S) on the meta device."""
    return torch.empty(batch, 3, image_size, image_size, device="meta")


def outline(network: Network, *, image_size: int, batch: int = 2) -> Output:
    """All outputs of `network`, taps included, for images (batch, 3, image_size, image_size): meta tensors,
    which have shape and dtype but no values.

    The network may be on any device, the meta device too; it, its mode and its statistics stay as they are. A
    module that does not keep the contract goes through `as_network` first.
    """
    known = _OUTLINES.get(network, {})
    if (image_size, batch) not in known:
        clone = cast(Network, meta_copy(network))
        with torch.no_grad():
            known[image_size, batch] = clone(meta_images(image_size, batch=batch), taps=True)
    return known[image_size, batch]


def _on_meta(tensor: Tensor) -> Tensor:
    moved = tensor.detach().to("meta")
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
