"""Geometric operations: one affine map per image, nearest resampling, black where nothing is mapped to.

The pixel of the output in column x and row y is that of the input in column (a0 x + a1 y + a2) >> 16 and row
(a3 x + a4 y + a5) >> 16: Pillow's fixed-point arithmetic, so its pixels exactly. a2 and a5 include the half
pixel by which a pixel's centre lies beside its corner. The functions below give (B, 6) int32 coefficients for
amounts (B,) float64, on the CPU; the maps go from output to input, as in Pillow and in the common pipelines:
a positive translation moves the content left or up. Shears keep the upper left corner, rotations the centre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BITS = 16
ONE_FIXED_POINT = 1 << BITS


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
    return (real * ONE_FIXED_POINT + 0.5).floor().to(torch.int32)


# Operations that blend an image with a degenerate one: as Pillow's ImageEnhance, to the last bit.
#
# degenerate + factor * (image - degenerate), in float32 and rounded down; the degenerate image is black
# (brightness), the mean grey (contrast), the grey image (color) or the smoothed image (sharpness). All take
# images (B, H, H, 3) uint8 and one factor in 0..1 per image, (B,) float64: 1 changes nothing, 0 leaves the
# degenerate image. Integers below 2^24 are exact in float32, so only the blend itself rounds. A fused
# multiply-add, which compilers for some processors make of Pillow's blend, may change a level by one.

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


# Operations that map each pixel by its value alone: as Pillow's ImageOps, to the last bit.
#
# All take images (B, H, H, 3) uint8 and one amount per image (B,) float64, and return new uint8 images.

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


# Cutout (DeVries and Taylor, 2017, arXiv 1708.04552): one square of each image filled with a colour.
#
# The square's centre is uniform over the image, in fractions of pixels, and the part of the square that lies
# outside is cut off, as the paper finds necessary. A pixel is filled where its centre lies in the square, so a
# square of side s has s^2 pixels on average before it is cut. MLKD's public pipeline shifts squares that cross
# the left or upper border inside and draws each about a pixel larger.


def squares(draws: Tensor, *, largest: float, size: int) -> Tensor:
    """(N, 4) int32 top, bottom, left, right (bottom and right excluded) of `draws` (N, 3), on the CPU.

    `draws` are in 0..1: the side over the largest one, the centre's row and column over `size` pixels;
    `largest` is the largest side over `size`."""
    half = draws[:, 0] * (largest * size / 2)
    row, column = draws[:, 1] * size - 0.5, draws[:, 2] * size - 0.5  # in units in which pixel i lies at i
    edges = torch.stack([row - half, row + half, column - half, column + half], dim=1)
    return edges.ceil().clamp_(0, size).to(torch.int32)


def cutout(images: Tensor, edges: Tensor, fill: Tensor) -> Tensor:
    """Images (B, H, H, 3) uint8 with the squares `edges` (B, 4) of the colour `fill` (3,) uint8."""
    size = images.shape[1]
    top, bottom, left, right = edges.unsqueeze(2).unbind(1)  # (B, 1) each
    place = torch.arange(size, dtype=torch.int32, device=images.device)
    across = place.repeat_interleave(3, output_size=3 * size)  # one per value: inner dimensions of three are slow
    rows = _mask((place >= top) & (place < bottom))
    columns = _mask((across >= left) & (across < right))
    inside = (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1)  # (B, H * H * 3)
    values = images.flatten(1)
    # Choosing by bits takes a quarter of the time of torch.where, measured on a CPU.
    return (values ^ fill.repeat(size**2)).bitwise_and_(inside).bitwise_xor_(values).view(images.shape)


def _mask(chosen: Tensor) -> Tensor:
    """Eight equal bits for each truth value."""
    return chosen.to(torch.uint8).mul_(255)


# RandAugment's 14 operations with the ranges of FixMatch (Sohn et al., 2020, arXiv 2001.07685, appendix).
#
# Where the table leaves room, the field's common pipeline decides: Posterize keeps int(4..8) bits, so 4 to 7;
# Solarize inverts the levels of at least its threshold, 0..256; AutoContrast and Equalize have no magnitude.
# The order is that in which groups of images are processed: the geometric ones last, in one pass together.


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
