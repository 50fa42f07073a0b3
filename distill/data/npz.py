"""Reading images from an .npz file, member by member: what is not asked for is not read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.dataset import Arrays

KEYS = "x_train y_train x_test y_test"


class DataNotFound(ValueError):
    """The files of a data set are not where they were looked for."""


def read_part(npz: str, part: str, *, num_classes: int | None = None, image_size: int | None = None) -> Arrays:
    """Images (N, H, H, 3) uint8 and labels (N,) int64 of `part`, "train" or "test".

    Raises ValueError in one sentence if the file or a key is missing, a type or shape is not as above,
    lengths differ, labels are not in 0..num_classes-1 or images not `image_size` wide (None: unchecked)."""
    images_key, labels_key = f"x_{part}", f"y_{part}"
    images = _member(npz, images_key)
    labels = _member(npz, labels_key)
    if images.dtype != np.uint8:
        raise ValueError(f"{images_key} in {npz} must be uint8, got {images.dtype}: store pixel values 0..255")
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.size:
        raise ValueError(
            f"{images_key} in {npz} must be square colour images of shape (N, H, H, 3), got {images.shape}: "
            f"resize them, and repeat a single channel three times"
        )
    if image_size is not None and images.shape[1] != image_size:
        raise ValueError(
            f"{images_key} in {npz} must be {image_size} pixels wide and high, got {images.shape[1]}: resize the images"
        )
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise ValueError(
            f"{labels_key} in {npz} must be whole numbers of shape (N,), got {labels.dtype} {labels.shape}: "
            f"store one class number per image"
        )
    if len(labels) != len(images):
        raise ValueError(f"{images_key} and {labels_key} in {npz} differ in length: {len(images)} and {len(labels)}")
    _check_range(labels, labels_key, npz, num_classes)
    return images, labels.astype(np.int64)


def read_class_names(npz: str) -> tuple[str, ...] | None:
    """The optional member `class_names`, or None."""
    names = _member(npz, "class_names", optional=True)
    return None if names is None else tuple(str(name) for name in names.reshape(-1))


def _check_range(labels: NDArray[Any], key: str, npz: str, num_classes: int | None) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        rule = "at least 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"{key} in {npz} must be {rule}, got {low}..{high}: number the classes from 0")


def _member(npz: str, key: str, *, optional: bool = False) -> Any:
    if not Path(npz).is_file():
        raise DataNotFound(f"there is no file {npz}: set dataset.npz to an .npz file with {KEYS}")
    try:
        with Path(npz).open("rb") as stream:  # opened here, because NumPy leaves a broken file open
            members = np.load(stream, allow_pickle=False)  # a pickle could execute code
            if not isinstance(members, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            if key in members.files:
                return members[key]
            present = " ".join(sorted(members.files)) or "nothing"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{npz} cannot be read as an .npz of plain arrays ({reason}): write it with numpy.savez"
        ) from error
    if optional:
        return None
    raise ValueError(f"{npz} has no array {key}, only {present}: an .npz data set holds {KEYS}")
