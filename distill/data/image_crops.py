"""The order and the crops of a streamed data set: those of an epoch are drawn at once from (seed, epoch).

The crops are those of torchvision's `RandomResizedCrop` (Szegedy et al., 2015, "Going deeper with convolutions",
section 6, as torchvision implements it): ten tries of an area and an aspect ratio, each accepted where the box fits
into the image, and otherwise the largest centred box whose aspect ratio is allowed. Here the tries of all images are
evaluated together, with numpy: 1.28 million images take about a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.stream import draw_generator

TRIES = 10
UNIFORMS = 2 * TRIES + 3  # areas, aspect ratios, row, column, flip
_TOGETHER = 1 << 16  # images whose uniforms are in memory at the same time

Range = tuple[float, float]


@dataclass(frozen=True)
class Crops:
    """Boxes (N, 4) int32 of top, left, height, width in pixels of the image, and whether each is mirrored (N,)."""

    boxes: NDArray[np.int32]
    flips: NDArray[np.bool_]


def random_order(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1, the order of one epoch."""
    order: NDArray[np.int64] = torch.randperm(count, generator=draw_generator(seed, "stream", epoch)).numpy()
    return order


def random_crops(
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
    *,
    scale: Range,
    ratio: Range,
    flip: bool,
    seed: int,
    purpose: str,
    epoch: int,
) -> Crops:
    """One crop for each of N images of these sizes (N,), by the draws of `purpose` in an epoch."""
    generator = draw_generator(seed, purpose, epoch)
    boxes = np.empty((len(heights), 4), np.int32)
    flips = np.empty(len(heights), np.bool_)
    for first in range(0, len(heights), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        shape = (len(heights[part]), UNIFORMS)
        uniforms = torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
        boxes[part] = crop_boxes(heights[part], widths[part], uniforms, scale=scale, ratio=ratio)
        flips[part] = uniforms[:, -1] < 0.5 if flip else False
    return Crops(boxes, flips)


def crop_boxes(
    heights: NDArray[np.int32], widths: NDArray[np.int32], uniforms: NDArray[np.float64], *, scale: Range, ratio: Range
) -> NDArray[np.int32]:
    """The boxes (N, 4) that torchvision's algorithm finds with `uniforms` (N, `UNIFORMS`) in 0..1.

    Columns: `TRIES` areas, `TRIES` aspect ratios, then the row and the column of the box. `scale` is the range of the
    area as a share of the image's, `ratio` that of width over height.
    """
    low, high = torch.log(torch.tensor(ratio)).tolist()  # in float32, as in torchvision
    height, width = heights.astype(np.float64), widths.astype(np.float64)
    areas = (height * width)[:, None] * (scale[0] + uniforms[:, :TRIES] * (scale[1] - scale[0]))
    aspects = np.exp(low + uniforms[:, TRIES : 2 * TRIES] * (high - low))
    tried_w, tried_h = np.rint(np.sqrt(areas * aspects)), np.rint(np.sqrt(areas / aspects))  # halves to even
    fits = (tried_w > 0) & (tried_w <= width[:, None]) & (tried_h > 0) & (tried_h <= height[:, None])
    rows, first = np.arange(len(heights)), fits.argmax(axis=1)
    # Where no try fits: the whole image, cut to the nearest allowed aspect ratio, from the centre.
    whole = width / height
    wide, narrow = whole > ratio[1], whole < ratio[0]
    central_w = np.where(wide, np.rint(height * ratio[1]), width)
    central_h = np.where(narrow, np.rint(width / ratio[0]), height)
    found = fits.any(axis=1)
    w, h = (np.where(found, t[rows, first], c) for t, c in ((tried_w, central_w), (tried_h, central_h)))
    room_h, room_w = height - h, width - w
    top = np.where(found, np.minimum(np.floor(uniforms[:, -3] * (room_h + 1)), room_h), room_h // 2)
    left = np.where(found, np.minimum(np.floor(uniforms[:, -2] * (room_w + 1)), room_w), room_w // 2)
    return np.stack([top, left, h, w], axis=1).astype(np.int32)
