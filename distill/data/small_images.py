"""The small-image data sets read from files: CIFAR-10 and CIFAR-100, and a user's .npz."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.data.builtin_images import DIGITS_SIZE, digits
from distill.data.dataset import Arrays, ImageDataset, assemble, unordered_digest
from distill.data.resident import Channels

KEYS = "x_train y_train x_test y_test"


RENUMBER = "number the classes without gaps: store numpy.searchsorted(numpy.unique(y_train), y) for both parts"


class DataNotFound(ValueError):
    """The files of a data set are not where they were looked for."""


def read_part(npz: str, part: str, *, num_classes: int | None = None, image_size: int | None = None) -> Arrays:
    """Images (N, H, H, 3) uint8 and labels (N,) int64 of `part`, "train" or "test".

    Grey images, (N, H, H) with or without a channel of size 1, get three equal channels. Raises ValueError in one
    sentence if the file or a key is missing, a type or shape is not as above, lengths differ, labels are not in
    0..num_classes-1 or images not `image_size` wide (None: unchecked)."""
    images_key, labels_key = f"x_{part}", f"y_{part}"
    images = _member(npz, images_key)
    labels = _member(npz, labels_key)
    if images.dtype != np.uint8:
        raise ValueError(f"{images_key} in {npz} must be uint8, got {images.dtype}: {_as_pixels(images)}")
    images = _in_three_channels(images)
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or not images.size:
        raise ValueError(
            f"{images_key} in {npz} must be square images of shape (N, H, H, 3), got {images.shape}: "
            f"{_reshaping(images.shape)}"
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


def _as_pixels(images: NDArray[Any]) -> str:
    """How to store images of another type as pixel values."""
    is_share = images.dtype.kind == "f" and images.size and images.min() >= 0 and images.max() <= 1
    return "store (255 * x).round().astype(numpy.uint8)" if is_share else "store pixel values 0..255"


def _in_three_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey images with three equal channels, others as they are."""
    if images.ndim == 4 and 1 in (images.shape[1], images.shape[3]):
        images = images[:, 0] if images.shape[1] == 1 else images[..., 0]
    return np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images


def _reshaping(shape: tuple[int, ...]) -> str:
    """What images of a wrong shape look like, and how to store them."""
    if len(shape) == 2 and (side := round((shape[1] / 3) ** 0.5)) ** 2 * 3 == shape[1] > 0:
        rows = f"x.reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1)"
        return f"they look like flat rows, one colour after the other: store {rows}"
    if len(shape) == 4 and shape[1] in (3, 4) and shape[2] == shape[3]:
        alpha = "x[:, :3]" if shape[1] == 4 else "x"
        return f"they look like (N, C, H, W), channels first: store {alpha}.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 4 and shape[1] == shape[2]:
        return "they look like RGBA, with transparency as fourth channel: store x[..., :3]"
    return "resize them to one square size, and store three colour channels, or grey images as (N, H, H)"


def read_class_names(npz: str) -> tuple[str, ...] | None:
    """The optional member `class_names`, or None."""
    names = _member(npz, "class_names", optional=True)
    return None if names is None else tuple(str(name) for name in names.reshape(-1))


def _check_range(labels: NDArray[Any], key: str, npz: str, num_classes: int | None) -> None:
    if not labels.size:
        raise ValueError(f"{key} in {npz} is empty: store a label for every image")
    low, high = int(labels.min()), int(labels.max())
    if num_classes is None and low >= 0 and high >= len(labels):
        raise ValueError(f"{key} in {npz} has the label {high} but only {len(labels)} images: {RENUMBER}")
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
        if "Object arrays" in str(error):  # NumPy has no exception of its own for them
            remedy = "numpy.stack(images) of one size" if key.startswith("x_") else "an array of one plain type"
            raise ValueError(f"{key} in {npz} is an array of Python objects: store {remedy}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{npz} cannot be read as an .npz of plain arrays ({reason}): write it with numpy.savez"
        ) from error
    if optional:
        return None
    raise ValueError(f"{npz} has no array {key}, only {present}: an .npz data set holds {KEYS}")


CIFAR_SIZE = 32


def cifar10(
    *,
    npz: str | None = None,
    root: str = "data",
    download: bool = False,
    mean: Channels = (0.4914, 0.4822, 0.4465),
    std: Channels = (0.2470, 0.2435, 0.2616),
    pad: int = 4,
    flip: bool = True,
    limit: int | None = None,
    holdout: int = 0,
) -> ImageDataset:
    """CIFAR-10 from `npz` if given, otherwise torchvision's archive in `root`, after its integrity check.

    Raises ValueError if the data are neither there nor may be downloaded, or have not CIFAR's shape."""
    names, train, read_test = _source("CIFAR10", 10, npz=npz, root=root, download=download)
    return assemble(
        train,
        read_test,
        class_names=names,
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
        limit=limit,
        holdout=holdout,
    )


def cifar100(
    *,
    npz: str | None = None,
    root: str = "data",
    download: bool = False,
    mean: Channels = (0.5071, 0.4867, 0.4408),
    std: Channels = (0.2675, 0.2565, 0.2761),
    pad: int = 4,
    flip: bool = True,
    limit: int | None = None,
    holdout: int = 0,
) -> ImageDataset:
    """CIFAR-100 with its 100 fine labels; sources and errors as for `cifar10`.

    The default `mean` and `std` are those of the distillation literature."""
    names, train, read_test = _source("CIFAR100", 100, npz=npz, root=root, download=download)
    return assemble(
        train,
        read_test,
        class_names=names,
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
        limit=limit,
        holdout=holdout,
    )


Source = tuple[tuple[str, ...], Arrays, Callable[[], Arrays]]


def _source(name: str, num_classes: int, *, npz: str | None, root: str, download: bool) -> Source:
    """Class names, training arrays and a function that reads the test arrays."""
    if npz is None:
        names, train = _archive(name, root, train=True, download=download)
        return names, train, lambda: _archive(name, root, train=False, download=False)[1]
    if download:
        raise ValueError(f"dataset.npz={npz} and dataset.download=true name two sources: leave one of them out")
    given = read_class_names(npz) or tuple(str(label) for label in range(num_classes))
    if len(given) != num_classes:
        raise ValueError(
            f"{name} has {num_classes} classes, class_names in {npz} has {len(given)}: "
            f"use dataset=arrays for other data"
        )

    def read(part: str) -> Arrays:
        return read_part(npz, part, num_classes=num_classes, image_size=CIFAR_SIZE)

    return given, read("train"), lambda: read("test")


def _archive(name: str, root: str, *, train: bool, download: bool) -> tuple[tuple[str, ...], Arrays]:
    """Torchvision's own class verifies the md5 sums of the archive before it reads a pickle from it."""
    import torchvision.datasets  # here, because importing it takes a second

    try:
        with warnings.catch_warnings():
            # The archive's pickles are of 2009: NumPy 2.4.0 to 2.4.4 warn of how they spell a dtype.
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            source = getattr(torchvision.datasets, name)(root, train=train, download=download)
    except (OSError, RuntimeError) as error:
        if download:
            raise ValueError(
                f"{name} could not be downloaded to {root} ({error}): "
                f"check the connection or set dataset.npz to a file with its arrays"
            ) from error
        raise DataNotFound(
            f"{name} is not in {root}, or not intact: set dataset.download=true, dataset.root to the folder "
            f"that holds it, or dataset.npz to a file with its arrays"
        ) from error
    images = np.ascontiguousarray(source.data)
    return tuple(source.classes), (images, np.asarray(source.targets, dtype=np.int64))


def arrays(
    *,
    npz: str,
    mean: Channels | None = None,
    std: Channels | None = None,
    pad: int = 4,
    flip: bool = True,
    limit: int | None = None,
    holdout: int = 0,
) -> ImageDataset:
    """Square colour images from `npz`: x_train, x_test (N, H, H, 3) uint8; y_train, y_test (N,) from 0.

    The optional `class_names` (K,) also fixes K; without it K is the largest training label plus one.
    `mean`, `std` None: computed from the images trained on. Raises ValueError for any other file.
    """
    names = read_class_names(npz)
    train = read_part(npz, "train", num_classes=None if names is None else len(names))
    size = train[0].shape[1]
    present = np.unique(train[1])
    classes = int(present[-1]) + 1 if names is None else len(names)
    if len(present) < classes:
        bare = int(np.setdiff1d(np.arange(classes), present)[0])
        if names is None:
            raise ValueError(
                f"y_train in {npz} goes up to {classes - 1}, but no image has the label {bare}: {RENUMBER}"
            )
        raise ValueError(
            f"no image in y_train of {npz} has the label {bare}, {names[bare]!r} in class_names: "
            "take that name out and number the classes without it, or add images"
        )
    names = names or tuple(map(str, range(classes)))
    return assemble(
        train,
        lambda: read_part(npz, "test", num_classes=len(names), image_size=size),
        class_names=names,
        mean=mean,
        std=std,
        pad=pad,
        flip=flip,
        limit=limit,
        holdout=holdout,
    )


def has_training_part(npz: str) -> bool:
    """Whether the file has training images; True for a file that cannot be read, whose reader names the reason."""
    try:
        with zipfile.ZipFile(npz) as file:
            return "x_train.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return True


def evaluation_part(
    npz: str, *, num_classes: int, image_size: int | None, mean: Channels, std: Channels
) -> ImageDataset:
    """The test images of a file without training images, for evaluation alone: the digest of `train` is None."""
    images, labels = read_part(npz, "test", num_classes=num_classes, image_size=image_size)
    return ImageDataset(
        images[:0],
        labels[:0],
        images,
        labels,
        class_names=tuple(map(str, range(num_classes))),
        mean=mean,
        std=std,
        pad=0,
        flip=False,
        holdout=0,
        digest={"train": None, "test": unordered_digest(images, labels, num_classes=num_classes)},
    )


# (K, H) by factory; a factory that is not here has to be called
SHAPES: Mapping[Callable[..., ImageDataset], tuple[int, int]] = MappingProxyType(
    {cifar10: (10, CIFAR_SIZE), cifar100: (100, CIFAR_SIZE), digits: (10, DIGITS_SIZE)}
)
