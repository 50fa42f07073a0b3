"""Bring your own small images: an .npz of uint8 arrays."""

from __future__ import annotations

from distill.data.channels import Channels
from distill.data.dataset import ImageDataset, assemble
from distill.data.npz import read_class_names, read_part


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
    names = names or tuple(str(label) for label in range(int(train[1].max()) + 1))
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
