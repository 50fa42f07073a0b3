"""The small-image data sets that need no files of the user: scikit-learn's digits, and generated images."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.dataset import Arrays, ImageDataset, assemble, stratified
from distill.data.resident import Channels

TEST_SEED = 20_240_603
SCALE = 4  # 8 x 8 to 32 x 32 pixels
DIGITS_SIZE = 8 * SCALE
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
    values = _digits()
    images, labels = enlarge(values[:, :-1].reshape(-1, 8, 8)), values[:, -1]
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


def _digits() -> NDArray[np.int64]:
    """(1797, 65): 8 x 8 pixels and the label of each image, from the file of scikit-learn.

    The file is read directly, because importing sklearn takes as long as the rest of a command that trains nothing.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",").astype(np.int64)
    from sklearn.datasets import load_digits  # a version that keeps it elsewhere

    source = load_digits()
    return np.column_stack([source.data, source.target]).astype(np.int64)


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
