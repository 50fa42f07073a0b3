"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 50,000 + 10,000 colour images of 32 x 32 pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from distill.data.channels import Channels
from distill.data.dataset import Arrays, ImageDataset, assemble
from distill.data.npz import DataNotFound, read_class_names, read_part

IMAGE_SIZE = 32


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
        return read_part(npz, part, num_classes=num_classes, image_size=IMAGE_SIZE)

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
