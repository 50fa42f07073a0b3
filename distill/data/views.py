"""Numbering of the augmented views of an image: crop offsets (dy, dx) and a horizontal flip.

A view is numbered ((dy * (2p+1) + dx) * F + flip), F = 2 with flips and 1 without: zero padding of
p pixels gives (2p+1)^2 crops, so pad 4 with flips has exactly 162 views.
"""

from __future__ import annotations

from torch import Tensor


def num_views(*, pad: int, flip: bool) -> int:
    """Number of views of one image."""
    return (2 * pad + 1) ** 2 * (1 + flip)


def centre_view(*, pad: int, flip: bool) -> int:
    """Number of the view that is the image itself: dy = dx = pad, not flipped."""
    return (pad * (2 * pad + 1) + pad) * (1 + flip)


def split_view(view: Tensor, *, pad: int, flip: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The (dy, dx, flip) of view numbers, int64 tensors of the shape of `view`."""
    crop, mirrored = (view // 2, view % 2) if flip else (view, view * 0)
    span = 2 * pad + 1
    return crop // span, crop % span, mirrored
