"""A labelled set of small square images in memory, split for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.channels import Channels, channel_statistics, checked_channels
from distill.data.digest import ordered_digest, unordered_digest
from distill.data.resident import DeviceImages, full_device, resident
from distill.data.split import held_out, limited
from distill.data.views import centre_view, num_views

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Host arrays (uint8 NHWC, int64 labels) and how they are augmented and normalised.

    `train_images` are those trained on, after limit and hold-out. `evaluation_images` are the test set or,
    while `holdout` > 0, the held-out images; the test set is then not even read. `digest` holds `train`, the
    whole training set after limit and before hold-out, in order, and `test`, the test set in any order, None
    while `holdout` > 0. `mean` and `std` are per channel, for images in 0..1. `pad` zeros are put around an
    image before a crop of its own size is drawn; `flip` says whether it may be mirrored.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    evaluation_images: NDArray[np.uint8]
    evaluation_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    mean: Channels
    std: Channels
    pad: int
    flip: bool
    holdout: int
    digest: dict[str, str | None]

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """H = W in pixels."""
        return int(self.train_images.shape[1])

    @property
    def num_views(self) -> int:
        """Number of augmented views of one image: 162 for pad 4 with flips."""
        return num_views(pad=self.pad, flip=self.flip)

    @property
    def centre_view(self) -> int:
        """Number of the view that is the image itself."""
        return centre_view(pad=self.pad, flip=self.flip)

    @property
    def split(self) -> Literal["test", "holdout"]:
        """What `evaluation_images` are."""
        return "holdout" if self.holdout else "test"

    def on(self, device: torch.device | str) -> DeviceImages:
        """All views of the training images on `device`: one copy for all who ask for equal content."""
        return resident(
            self.train_images,
            self.train_labels,
            content=("train", self.digest["train"], self.holdout),
            mean=self.mean,
            std=self.std,
            pad=self.pad,
            flip=self.flip,
            device=full_device(device),
        )

    def evaluation_on(self, device: torch.device | str) -> DeviceImages:
        """The evaluation images on `device`, in their order; their only view is number 0."""
        return resident(
            self.evaluation_images,
            self.evaluation_labels,
            content=self._evaluation_content,
            mean=self.mean,
            std=self.std,
            pad=0,
            flip=False,
            device=full_device(device),
        )

    @cached_property
    def _evaluation_content(self) -> str:
        # `digest["test"]` does not know the order of the test set, which matters in memory.
        return ordered_digest(self.evaluation_images, self.evaluation_labels, num_classes=self.num_classes)


def assemble(
    train: Arrays,
    read_test: Callable[[], Arrays],
    *,
    class_names: tuple[str, ...],
    mean: Channels | None,
    std: Channels | None,
    pad: int,
    flip: bool,
    limit: int | None,
    holdout: int,
) -> ImageDataset:
    """Apply limit and hold-out to `train`; `read_test` is called only when `holdout` is 0.

    `mean` or `std` None: computed from the images trained on. Raises ValueError for values out of range."""
    images, labels = train
    _check_every_class(labels, class_names)
    faults = [f"dataset.pad must be >= 0, got {pad}: set dataset.pad to 0 for no random crops"] if pad < 0 else []
    kept = None
    try:
        kept = limited(labels, limit, num_classes=len(class_names))
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    if kept is not None:
        images, labels = images[kept], labels[kept]
    digest: dict[str, str | None] = {"train": ordered_digest(images, labels, num_classes=len(class_names))}
    out = held_out(labels, holdout, class_names=class_names)
    if holdout:
        evaluation = images[out], labels[out]
        images, labels = np.delete(images, out, axis=0), np.delete(labels, out)
        digest["test"] = None
    else:
        evaluation = read_test()
        digest["test"] = unordered_digest(*evaluation, num_classes=len(class_names))
    if mean is None or std is None:
        computed = channel_statistics(images)
        mean, std = mean or computed[0], std or computed[1]
    return ImageDataset(
        images,
        labels,
        *evaluation,
        class_names=class_names,
        mean=checked_channels("mean", mean),
        std=checked_channels("std", std, positive=True),
        pad=pad,
        flip=flip,
        holdout=holdout,
        digest=digest,
    )


def _check_every_class(labels: NDArray[np.int64], class_names: tuple[str, ...]) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    if not counts.all():
        bare = int(np.argmin(counts))
        raise ValueError(
            f"every class needs training images, class {bare} ({class_names[bare]}) has none: "
            f"number the labels from 0 without gaps"
        )
