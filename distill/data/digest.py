"""Content digests of a data set: equal data have equal digests, wherever they were read from.

Names of classes, file names, the integer type of labels and extra arrays are left out. The number of classes
is in, because it decides the shape of a network.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def ordered_digest(images: NDArray[np.uint8], labels: NDArray[np.int64], *, num_classes: int) -> str:
    """sha256 of images (N, H, W, 3) and labels (N,) in order, which decides what a stream yields."""
    digest = hashlib.sha256(_header("ordered", images, num_classes))
    digest.update(np.ascontiguousarray(images).reshape(-1).data)
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def unordered_digest(images: NDArray[np.uint8], labels: NDArray[np.int64], *, num_classes: int) -> str:
    """sha256 of the set of (image, label) with repetitions: the order of a test set changes no accuracy."""
    rows = zip(labels.astype("<i8"), images, strict=True)
    items = sorted(hashlib.sha256(label.tobytes() + image.tobytes()).digest() for label, image in rows)
    return hashlib.sha256(_header("unordered", images, num_classes) + b"".join(items)).hexdigest()


def _header(kind: str, images: NDArray[np.uint8], num_classes: int) -> bytes:
    shape = "x".join(map(str, images.shape))
    return f"{kind} {shape} {num_classes}\n".encode()
