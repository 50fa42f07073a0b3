"""The 1,797 handwritten digits that come with scikit-learn: real data, offline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.data.channels import Channels
from distill.data.dataset import Arrays, ImageDataset, assemble
from distill.data.split import stratified

TEST_SEED = 20_240_603
SCALE = 4  # 8 x 8 to 32 x 32 pixels
IMAGE_SIZE = 8 * SCALE
LEVELS = 16  # pixel values are 0..16


def digits(
    *,
    mean: Channels = (0.306485, 0.306485, 0.306485),
    std: Channels = (0.324264, 0.324264, 0.324264),
    pad: int = 4,
    flip: bool = False,
    limit: int | None = None,
    holdout: int = 0,
) -> ImageDataset:
    """899 training and 898 test images of 32 x 32 x 3, a fixed stratified half each.

    `mean` and `std` are those of the training half. Not mirrored: a mirrored 2 is no digit.
    """
    from sklearn.datasets import load_digits  # here, because importing it takes a second

    source = load_digits()
    images = enlarge(np.asarray(source.images).astype(np.int64))
    labels = np.asarray(source.target).astype(np.int64)
    test = stratified(labels, len(labels) // 2, num_classes=10, seed=TEST_SEED)

    def read_test() -> Arrays:
        return images[test], labels[test]

    return assemble(
        (np.delete(images, test, axis=0), np.delete(labels, test)),
        read_test,
        class_names=tuple(str(digit) for digit in range(10)),
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
        limit=limit,
        holdout=holdout,
    )


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, 8, 8) of values 0..16 to (N, 32, 32, 3) of 0..255, bilinear with edges repeated.

    Exact in integers, so that every platform has the same pixels and therefore the same digest."""
    weights = _weights(images.shape[1])  # (32, 8), rows sum to 2 * SCALE
    total = (2 * SCALE) ** 2 * LEVELS
    sums = np.einsum("or,nrc,pc->nop", weights, images, weights)
    pixels = (sums * 255 + total // 2) // total  # rounded half up
    return np.repeat(pixels.astype(np.uint8)[..., None], 3, axis=3)


def _weights(size: int) -> NDArray[np.int64]:
    """(size * SCALE, size) in units of 1 / (2 SCALE): output pixel o lies at (2o + 1 - SCALE) / (2 SCALE)."""
    output = np.arange(size * SCALE)
    left, fraction = np.divmod(2 * output + 1 - SCALE, 2 * SCALE)
    weights = np.zeros((size * SCALE, size), dtype=np.int64)
    np.add.at(weights, (output, np.clip(left, 0, size - 1)), 2 * SCALE - fraction)
    np.add.at(weights, (output, np.clip(left + 1, 0, size - 1)), fraction)
    return weights
