"""From the pixels of a picture to what a network reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.runs.files import StorageError
from distill.runs.store import RunRecord

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """`(pixels / 255 - mean) / std` per channel, as the network's training images were normalised."""

    mean: Channels
    std: Channels

    def __call__(self, pixels: Any) -> Tensor:
        """(B, 3, H, W) float32 of RGB images (B, H, W, 3) or of one (H, W, 3): uint8 array, tensor or PIL image.

        A tensor's result is on its device. The values are those of training, to the bit. Raises ValueError for
        another shape or type.
        """
        given = pixels if isinstance(pixels, Tensor) else torch.from_numpy(np.array(pixels))
        if given.dtype != torch.uint8 or given.ndim not in (3, 4) or given.shape[-1] != 3:
            raise ValueError(
                f"pixels must be uint8 of shape (B, H, W, 3) or (H, W, 3), got {given.dtype} {tuple(given.shape)}: "
                'give RGB values 0..255, of a PIL image by .convert("RGB")'
            )
        deviation = torch.tensor(self.std, dtype=torch.float64)
        scale = (1 / (255 * deviation)).float().to(given.device)
        shift = (-torch.tensor(self.mean, dtype=torch.float64) / deviation).float().to(given.device)
        values = given.to(torch.float32).mul_(scale).add_(shift)
        return values.view(-1, *given.shape[-3:]).permute(0, 3, 1, 2)


def normalisation_of(record: RunRecord) -> Normalisation:
    """The one a run was trained with. Raises StorageError where its config does not say it."""
    for node in (record.identity.get("data"), record.config.get("dataset")):
        mean, std = (_channels(node, key) for key in ("mean", "std"))
        if mean is not None and std is not None and min(std) > 0:
            return Normalisation(mean, std)
    raise StorageError(f"{record.path} does not say how its images are normalised: its config is damaged")


def _channels(node: Any, key: str) -> Channels | None:
    values = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(values, list) or len(values) != 3:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return (float(values[0]), float(values[1]), float(values[2]))
