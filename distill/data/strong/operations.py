"""RandAugment's 14 operations with the ranges of FixMatch (Sohn et al., 2020, arXiv 2001.07685, appendix).

Where the table leaves room, the field's common pipeline decides: Posterize keeps int(4..8) bits, so 4 to 7;
Solarize inverts the levels of at least its threshold, 0..256; AutoContrast and Equalize have no magnitude.
The order is that in which groups of images are processed: the geometric ones last, in one pass together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.strong.affine import rotation, shear_x, shear_y, translation_x, translation_y
from distill.data.strong.enhance import brightness, color, contrast, sharpness
from distill.data.strong.point import autocontrast, equalize, identity, posterize, solarize


@dataclass(frozen=True)
class PixelOperation:
    """`apply(images (B, H, H, 3) uint8, amounts (B,) float64)` with amounts in low..high."""

    name: str
    low: float
    high: float
    apply: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GeometricOperation:
    """`coefficients(amounts (B,) float64, size)` for `affine`, with amounts in low..high."""

    name: str
    low: float
    high: float
    coefficients: Callable[[Tensor, int], Tensor]


PIXEL_OPERATIONS = (
    PixelOperation("Identity", 0, 1, identity),
    PixelOperation("AutoContrast", 0, 1, autocontrast),
    PixelOperation("Equalize", 0, 1, equalize),
    PixelOperation("Posterize", 4, 8, posterize),
    PixelOperation("Solarize", 0, 256, solarize),
    PixelOperation("Brightness", 0.05, 0.95, brightness),
    PixelOperation("Color", 0.05, 0.95, color),
    PixelOperation("Contrast", 0.05, 0.95, contrast),
    PixelOperation("Sharpness", 0.05, 0.95, sharpness),
)
GEOMETRIC_OPERATIONS = (
    GeometricOperation("Rotate", -30, 30, rotation),
    GeometricOperation("ShearX", -0.3, 0.3, shear_x),
    GeometricOperation("ShearY", -0.3, 0.3, shear_y),
    GeometricOperation("TranslateX", -0.3, 0.3, translation_x),
    GeometricOperation("TranslateY", -0.3, 0.3, translation_y),
)
OPERATIONS = (*PIXEL_OPERATIONS, *GEOMETRIC_OPERATIONS)
_LOW = torch.tensor([each.low for each in OPERATIONS], dtype=torch.float64)
_HIGH = torch.tensor([each.high for each in OPERATIONS], dtype=torch.float64)


def amounts(operation: Tensor, magnitude: Tensor) -> Tensor:
    """(N,) float64: `magnitude` (N,) in 0..1 as an amount in the range of `operation` (N,), on the CPU."""
    low = _LOW[operation]
    return low + (_HIGH[operation] - low) * magnitude


def coefficients(operation: Tensor, amount: Tensor, *, size: int) -> Tensor:
    """(N, 6) int32 for `affine`, on the CPU; rows of operations that are not geometric are zero."""
    found = torch.zeros(len(operation), 6, dtype=torch.int32)
    for number, each in enumerate(GEOMETRIC_OPERATIONS, start=len(PIXEL_OPERATIONS)):
        rows = operation == number
        found[rows] = each.coefficients(amount[rows], size)
    return found
