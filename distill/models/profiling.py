"""Size and cost of a network, exactly."""

from dataclasses import dataclass
from typing import cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from distill.models.contract import Network
from distill.models.meta import meta_copy, meta_images


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
    clone = cast(Network, meta_copy(network))
    images = meta_images(image_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = clone(images, taps=True).features
    return Profile(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=counter.get_total_flops() // 2,
        feature_shapes=tuple((f.shape[1], f.shape[2], f.shape[3]) for f in features),
    )
