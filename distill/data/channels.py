"""Mean and deviation per colour channel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Channels = tuple[float, float, float]


def channel_statistics(images: NDArray[np.uint8]) -> tuple[Channels, Channels]:
    """Mean and population deviation of (N, H, W, 3) uint8 images in units of 0..1, to six decimals.

    Sums are exact integers (a histogram per channel), so every platform finds the same numbers."""
    levels = np.arange(256)
    mean, std = [], []
    for channel in range(3):
        histogram = np.bincount(images[..., channel].reshape(-1), minlength=256)
        count, total = int(histogram.sum()), int(histogram @ levels)
        squares = int(histogram @ levels**2)
        mean.append(round(total / count / 255, 6))
        std.append(round(math.sqrt(count * squares - total**2) / count / 255, 6))
    return checked_channels("mean", mean), checked_channels("std", std)


def checked_channels(name: str, values: tuple[float, ...] | list[float], *, positive: bool = False) -> Channels:
    """Three finite numbers as a tuple; ValueError otherwise."""
    channels = tuple(float(value) for value in values)
    if len(channels) != 3 or not all(math.isfinite(value) for value in channels):
        raise ValueError(f"dataset.{name} must be three finite numbers, one per channel, got {list(values)}")
    if positive and min(channels) <= 0:
        raise ValueError(
            f"dataset.{name} must be > 0 in every channel, got {list(values)}: "
            f"set dataset.{name}=[a,b,c] (a channel without any variation has no deviation of its own)"
        )
    return (channels[0], channels[1], channels[2])
