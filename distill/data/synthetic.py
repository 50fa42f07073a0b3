"""Small generated images that a network can learn: for tests and for trying things out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.data.channels import Channels
from distill.data.dataset import Arrays, ImageDataset, assemble

BLOCKS = 4  # a class is a pattern of 4 x 4 coloured blocks
NOISE = 48  # grey levels up or down


def synthetic(
    *,
    classes: int = 10,
    train_size: int = 200,
    test_size: int = 100,
    image_size: int = 32,
    seed: int = 0,
    mean: Channels = (0.5, 0.5, 0.5),
    std: Channels = (0.25, 0.25, 0.25),
    pad: int = 4,
    flip: bool = True,
    limit: int | None = None,
    holdout: int = 0,
) -> ImageDataset:
    """Each class has a random pattern of coloured blocks; an image is its class's pattern with noise.

    `seed` fixes patterns and noise, so it belongs to the data, not to a run. Labels are balanced.
    Raises ValueError unless classes >= 2, train_size >= classes, test_size >= 1 and image_size >= 4."""
    faults = [
        f"dataset.{name} must be at least {least}, got {value}: set a larger number"
        for name, value, least in (
            ("classes", classes, 2),
            ("train_size", train_size, classes),
            ("test_size", test_size, 1),
            ("image_size", image_size, BLOCKS),
        )
        if value < least
    ]
    if faults:
        raise ValueError("\n".join(faults))
    blocks = np.random.RandomState(seed).randint(NOISE, 256 - NOISE, (classes, BLOCKS, BLOCKS, 3), dtype=np.int16)
    block = np.arange(image_size) * BLOCKS // image_size
    patterns = blocks[:, block][:, :, block]

    def draw(size: int, part: int) -> Arrays:
        random = np.random.RandomState([seed, part])
        labels: NDArray[np.int64] = random.permutation(np.arange(size) % classes).astype(np.int64)
        noise = random.randint(-NOISE, NOISE + 1, (size, image_size, image_size, 3), dtype=np.int16)
        return (patterns[labels] + noise).clip(0, 255).astype(np.uint8), labels

    return assemble(
        draw(train_size, 1),
        lambda: draw(test_size, 2),
        class_names=tuple(str(label) for label in range(classes)),
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
        limit=limit,
        holdout=holdout,
    )
