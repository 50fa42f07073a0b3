"""Copies of networks on the meta device: shapes, size and cost, without arithmetic, memory or side effects."""

import copy
from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from distill.models.contract import Network, Output

# of the networks that `shapes_of` made, by image size and batch
_OUTLINES: WeakKeyDictionary[nn.Module, dict[tuple[int, int], Output]] = WeakKeyDictionary()


def meta_copy(network: nn.Module) -> nn.Module:
    """A copy of `network` in eval mode whose tensors are on the meta device and need no gradient.

    The original is not touched (neither mode nor BatchNorm statistics), and no weight is ever copied: the
    memo determines what deepcopy puts in the place of each tensor.
    """
    memo: dict[int, object] = {}
    for module in network.modules():
        held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        for tensor in held:
            if isinstance(tensor, Tensor):
                memo[id(tensor)] = _on_meta(tensor)
    return copy.deepcopy(network, memo).eval()


def shapes_of(network: nn.Module) -> nn.Module:
    """A `meta_copy` for checks, which never change it: each of its outlines is computed once."""
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
        clone = _without_norms(network)
        with torch.no_grad():
            known[image_size, batch] = clone(meta_images(image_size, batch=batch), taps=True)
    return known[image_size, batch]


def _without_norms(network: nn.Module) -> Network:
    """A `meta_copy` without BatchNorm, which changes no shape and takes most of the time on the meta device."""
    clone = cast(Network, meta_copy(network))
    for module in clone.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.forward = nn.Identity().forward
    return clone


def _on_meta(tensor: Tensor) -> Tensor:
    moved = tensor.detach().to("meta")
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved


@dataclass(frozen=True)
class Profile:
    """Size and cost.

    parameters      all of them, a shared one once
    macs            multiply-adds of one image
    feature_shapes  (C, H, W) of each tap
    """

    parameters: int
    macs: int
    feature_shapes: tuple[tuple[int, int, int], ...]


def profile(network: Network, *, image_size: int) -> Profile:
    """Count `network` for images (3, image_size, image_size).

    MACs are the multiply-adds of convolutions and linear layers, the field's count; the matrix products of
    attention are in, while BatchNorm, activations, pooling and biases are not. Runs on the meta device: the
    network, its mode and its statistics stay as they are.
    """
    clone = _without_norms(network)
    images = meta_images(image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = clone(images, taps=True).features
    return Profile(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=counter.get_total_flops() // 2,
        feature_shapes=tuple((f.shape[1], f.shape[2], f.shape[3]) for f in features),
    )
