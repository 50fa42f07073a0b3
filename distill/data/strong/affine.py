"""Geometric operations: one affine map per image, nearest resampling, black where nothing is mapped to.

The pixel of the output in column x and row y is that of the input in column (a0 x + a1 y + a2) >> 16 and row
(a3 x + a4 y + a5) >> 16: Pillow's fixed-point arithmetic, so its pixels exactly. a2 and a5 include the half
pixel by which a pixel's centre lies beside its corner. The functions below give (B, 6) int32 coefficients for
amounts (B,) float64, on the CPU; the maps go from output to input, as in Pillow and in the common pipelines:
a positive translation moves the content left or up. Shears keep the upper left corner, rotations the centre.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BITS = 16
ONE = 1 << BITS


def rotation(degrees: Tensor, size: int) -> Tensor:
    """About the image's centre, counter-clockwise."""
    radians = torch.deg2rad(-degrees)
    cos, sin = radians.cos(), radians.sin()
    centre = size / 2
    column = centre - cos * centre - sin * centre
    row = centre + sin * centre - cos * centre
    return _fixed(cos, sin, column, -sin, cos, row)


def shear_x(shares: Tensor, size: int) -> Tensor:
    """Row y is taken from `shares` * y pixels further right."""
    one, zero = torch.ones_like(shares), torch.zeros_like(shares)
    return _fixed(one, shares, zero, zero, one, zero)


def shear_y(shares: Tensor, size: int) -> Tensor:
    """Column x is taken from `shares` * x pixels further down."""
    one, zero = torch.ones_like(shares), torch.zeros_like(shares)
    return _fixed(one, zero, zero, shares, one, zero)


def translation_x(shares: Tensor, size: int) -> Tensor:
    """Taken from `shares` * size pixels further right, rounded to whole pixels, halves up."""
    one, zero = torch.ones_like(shares), torch.zeros_like(shares)
    return _fixed(one, zero, (shares * size + 0.5).floor(), zero, one, zero)


def translation_y(shares: Tensor, size: int) -> Tensor:
    """Taken from `shares` * size pixels further down, rounded to whole pixels, halves up."""
    one, zero = torch.ones_like(shares), torch.zeros_like(shares)
    return _fixed(one, zero, zero, zero, one, (shares * size + 0.5).floor())


def affine(images: Tensor, coefficients: Tensor) -> Tensor:
    """Images (B, H, H, 3) uint8 mapped by `coefficients` (B, 6) int32."""
    count, size = images.shape[:2]
    a0, a1, a2, a3, a4, a5 = coefficients.view(count, 6, 1, 1).unbind(1)
    x = torch.arange(size, dtype=torch.int32, device=images.device)
    y = x.unsqueeze(1)
    # Places outside are moved to a black border, one pixel wide.
    column = ((a0 * x + a2) + a1 * y).bitwise_right_shift_(BITS).clamp_(-1, size)  # (B, H, H)
    row = ((a3 * x + a5) + a4 * y).bitwise_right_shift_(BITS).clamp_(-1, size)
    side = size + 2
    first = torch.arange(count, dtype=torch.int32, device=images.device).mul_(side**2).add_(side + 1)
    source = row.mul_(side).add_(column).add_(first.view(-1, 1, 1))
    bordered = functional.pad(images.flatten(2), (3, 3, 1, 1)).view(-1, 3)
    return bordered.index_select(0, source.view(-1)).view(images.shape)


def _fixed(a0: Tensor, a1: Tensor, a2: Tensor, a3: Tensor, a4: Tensor, a5: Tensor) -> Tensor:
    """(B, 6) int32 in units of 2^-16 pixels, with the half pixel."""
    real = torch.stack([a0, a1, a2 + 0.5 * (a0 + a1), a3, a4, a5 + 0.5 * (a3 + a4)], dim=1)
    return (real * ONE + 0.5).floor().to(torch.int32)
