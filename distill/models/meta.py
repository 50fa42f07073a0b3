"""Copies of networks on the meta device: shapes without arithmetic, memory or side effects."""

import copy

import torch
from torch import Tensor, nn


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


def meta_images(image_size: int) -> Tensor:
    """One image (1, 3, S, S) on the meta device."""
    return torch.empty(1, 3, image_size, image_size, device="meta")


def _on_meta(tensor: Tensor) -> Tensor:
    moved = tensor.detach().to("meta")
    return nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved
