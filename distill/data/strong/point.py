"""Operations that map each pixel by its value alone: as Pillow's ImageOps, to the last bit.

All take images (B, H, H, 3) uint8 and one amount per image (B,) float64, and return new uint8 images.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 256


def identity(images: Tensor, _: Tensor) -> Tensor:
    """The images themselves."""
    return images


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched linearly so that its least level is 0 and its greatest 255, cutting off nothing.

    A channel of one level stays. In float64 and rounded down, as Pillow does: in exact arithmetic some levels
    would be one higher."""
    low, high = (bound.double() for bound in images.flatten(1, 2).aminmax(dim=1))
    flat = high == low
    # Divided as tensors: torch computes a number over a tensor as the number times the reciprocals.
    scale = torch.where(flat, 1.0, torch.full_like(high, 255) / (high - low))
    offset = torch.where(flat, 0.0, -low * scale)
    levels = torch.arange(LEVELS, dtype=torch.float64, device=images.device)
    # Two operations, not one fused multiply-add, which rounds once only.
    table = (levels * scale.unsqueeze(2)).add_(offset.unsqueeze(2))
    return _looked_up(_entries(images), table.clamp_(0, 255).to(torch.uint8)).view(images.shape)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Each channel's histogram made as level as a map of levels can.

    With h the histogram and step = (pixels - h[greatest level]) // 255, level v becomes
    min(255, (step // 2 + pixels below v) // step); a channel with step 0 stays."""
    entries = _entries(images)
    histogram = torch.zeros(len(images) * 3 * LEVELS, dtype=torch.int32, device=images.device)
    histogram = histogram.scatter_add_(0, entries.long(), torch.ones_like(entries)).view(-1, 3, LEVELS)
    greatest = images.flatten(1, 2).amax(dim=1).long().unsqueeze(2)
    pixels = images.shape[1] * images.shape[2]
    step = (pixels - histogram.gather(2, greatest)) // 255
    below = histogram.cumsum(2, dtype=torch.int32) - histogram
    table = (below + step // 2) // step.clamp(min=1)
    levels = torch.arange(LEVELS, dtype=torch.int32, device=images.device)
    table = torch.where(step == 0, levels, table.clamp_(max=255))
    return _looked_up(entries, table.to(torch.uint8)).view(images.shape)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """Only the int(amount) most significant bits of each level kept; amounts in 1..8."""
    kept = LEVELS - (1 << (8 - amounts.to(torch.int32)))
    return images & kept.to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Levels of at least the amount inverted: v becomes 255 - v; amounts in 0..256."""
    threshold = amounts.ceil().unsqueeze(1)
    levels = images.flatten(1)
    chosen = (levels >= threshold.clamp(max=255).to(torch.uint8)).to(torch.uint8)
    inverting = (threshold < LEVELS).to(torch.uint8).mul_(255)  # none for 256, which is no uint8
    return chosen.mul_(inverting).bitwise_xor_(levels).view(images.shape)  # 255 - v has the other bits


def _entries(images: Tensor) -> Tensor:
    """(B * H * H * 3,) int32: where each value stands in a flat table (B, 3, 256)."""
    values = images.flatten(1).to(torch.int32)
    channel = torch.arange(3, dtype=torch.int32, device=images.device).mul_(LEVELS).repeat(values.shape[1] // 3)
    image = torch.arange(len(images), dtype=torch.int32, device=images.device).mul_(3 * LEVELS).unsqueeze(1)
    return values.add_(channel).add_(image).view(-1)


def _looked_up(entries: Tensor, table: Tensor) -> Tensor:
    return table.view(-1).index_select(0, entries)
