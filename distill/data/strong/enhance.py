"""Operations that blend an image with a degenerate one: as Pillow's ImageEnhance, to the last bit.

degenerate + factor * (image - degenerate), in float32 and rounded down; the degenerate image is black
(brightness), the mean grey (contrast), the grey image (color) or the smoothed image (sharpness). All take
images (B, H, H, 3) uint8 and one factor in 0..1 per image, (B,) float64: 1 changes nothing, 0 leaves the
degenerate image. Integers below 2^24 are exact in float32, so only the blend itself rounds. A fused
multiply-add, which compilers for some processors make of Pillow's blend, may change a level by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R 601-2 luma in units of 2^-16: they sum to 2^16
RED, GREEN, BLUE = 19595, 38470, 7471
ONE = 65536


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with black."""
    return images.flatten(1).float().mul_(_column(factors)).to(images.dtype).view(images.shape)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with the mean of the grey image, rounded to a whole level."""
    levels = grey(images).flatten(1)
    pixels = levels.shape[1]
    # Halves are rounded up. An integer division, because a float32 mean could fall on the wrong side of one.
    mean = (2 * levels.long().sum(1, keepdim=True) + pixels) // (2 * pixels)
    return _blended(mean.float(), images.flatten(1).float(), factors).view(images.shape)


def color(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with the grey image: less saturated."""
    degenerate = grey(images).unsqueeze(3).expand_as(images).flatten(1)
    return _blended(degenerate, images.flatten(1).float(), factors).view(images.shape)


def sharpness(images: Tensor, factors: Tensor) -> Tensor:
    """Blended with the image smoothed by ((1, 1, 1), (1, 5, 1), (1, 1, 1)) / 13: less sharp.

    The outermost pixels have no neighbours on one side and stay."""
    values = images.flatten(2).float()  # (B, H, H * 3): the neighbours in a row are three values away
    rows = (values[:, :-2] + values[:, 1:-1]).add_(values[:, 2:])
    total = (rows[:, :, :-6] + rows[:, :, 3:-3]).add_(rows[:, :, 6:]).add_(values[:, 1:-1, 3:-3], alpha=4)
    degenerate = values.clone()
    degenerate[:, 1:-1, 3:-3] = total.add_(6.5).div_(13).floor_()  # to the nearest level; 13 is odd: no ties
    return _blended(degenerate.flatten(1), values.flatten(1), factors).view(images.shape)


def grey(images: Tensor) -> Tensor:
    """(B, H, H) float32 of whole levels: the luma of ITU-R 601-2, rounded to the nearest."""
    # Sorted by channel first: reading every third value is slow.
    red, green, blue = images.permute(3, 0, 1, 2).contiguous().float()
    # No sum exceeds 255.5 * 2^16 < 2^24, so this is exact, fused or not.
    return red.mul_(RED).add_(green, alpha=GREEN).add_(blue, alpha=BLUE).add_(ONE // 2).div_(ONE).floor_()


def _blended(degenerate: Tensor, values: Tensor, factors: Tensor) -> Tensor:
    """(B, H * H * 3) uint8; `values` are overwritten: fresh memory costs more than the arithmetic."""
    return values.sub_(degenerate).mul_(_column(factors)).add_(degenerate).to(torch.uint8)


def _column(factors: Tensor) -> Tensor:
    return factors.float().unsqueeze(1)
