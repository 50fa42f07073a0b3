"""A labelled set of small square images in memory, split for training and evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.resident import (
    Channels,
    DeviceImages,
    channel_statistics,
    checked_channels,
    full_device,
    num_views,
    resident,
)
from distill.data.stream import WHOLE, EvaluationStream, ImageStream, Part
from distill.data.strong import StrongView

# Content digests of a data set: equal data have equal digests, wherever they were read from.
#
# Names of classes, file names, the integer type of labels and extra arrays are left out. The number of classes
# is in, because it decides the shape of a network.


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


# Fixed subsets of a training set: a class-balanced limit and a stratified hold-out.
#
# Both are drawn from seeds of their own, never from a run's: every run gets the same subset. NumPy's
# `RandomState` is used because its stream is frozen for good, which `default_rng` does not promise.

LIMIT_SEED = 20_240_601
HOLDOUT_SEED = 20_240_602

Labels = NDArray[np.int64]


def stratified(labels: Labels, size: int, *, num_classes: int, seed: int) -> Labels:
    """Positions (ascending) of `size` images that keep the classes' proportions, by largest remainder."""
    counts = np.bincount(labels, minlength=num_classes)
    quota, remainder = np.divmod(counts * size, len(labels))
    short = size - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:short]] += 1
    return _draw(labels, quota, seed)


def balanced(labels: Labels, size: int, *, num_classes: int, seed: int) -> Labels:
    """Positions (ascending) of `size` images spread over the classes as evenly as their counts allow."""
    counts = np.bincount(labels, minlength=num_classes)
    quota = np.zeros_like(counts)
    while (short := size - int(quota.sum())) > 0:
        open_classes = np.flatnonzero(quota < counts)
        each = max(1, short // len(open_classes))
        grown = open_classes[:short]  # one each to the first `short` classes once less than one each is left
        quota[grown] = np.minimum(quota[grown] + each, counts[grown])
    return _draw(labels, quota, seed)


def limited(labels: Labels, limit: int | None, *, num_classes: int) -> Labels | None:
    """Positions of the images `dataset.limit` keeps, or None for all; ValueError where it is out of range."""
    if limit is None:
        return None
    if not num_classes <= limit <= len(labels):
        raise ValueError(
            f"dataset.limit must be between the number of classes ({num_classes}) and the number of training "
            f"images ({len(labels)}), got {limit}: choose a number in this range or null for all images"
        )
    return balanced(labels, limit, num_classes=num_classes, seed=LIMIT_SEED)


def held_out(labels: Labels, holdout: int, *, class_names: tuple[str, ...]) -> Labels:
    """Positions of the `holdout` images kept out of training; ValueError where a class would lose all."""
    if not 0 <= holdout < len(labels):
        raise ValueError(
            f"dataset.holdout must be at least 0 and below the number of training images ({len(labels)}), "
            f"got {holdout}: set dataset.holdout to a smaller number, or to 0 to evaluate on the test set"
        )
    positions = stratified(labels, holdout, num_classes=len(class_names), seed=HOLDOUT_SEED)
    left = np.bincount(np.delete(labels, positions), minlength=len(class_names))
    if not left.all():
        bare = int(np.argmin(left))
        raise ValueError(
            f"dataset.holdout={holdout} leaves class {bare} ({class_names[bare]}) without training images: "
            f"set dataset.holdout to a smaller number"
        )
    return positions


def _draw(labels: Labels, quota: Labels, seed: int) -> Labels:
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(chosen))


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

    notes = ()

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
    def split(self) -> Literal["test", "holdout"]:
        """What `evaluation_images` are."""
        return "holdout" if self.holdout else "test"

    def identity(self) -> dict[str, Any]:
        """The data set's part of a run's identity: its content and how it is augmented, not its files."""
        return {
            **self.digest,
            "holdout": self.holdout,
            "mean": list(self.mean),
            "std": list(self.std),
            "pad": self.pad,
            "flip": self.flip,
        }

    def stream(
        self,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        strong: StrongView | None = None,
        part: Part = WHOLE,
    ) -> ImageStream:
        """The training images, shuffled and augmented anew in every epoch."""
        return ImageStream(self, batch_size=batch_size, seed=seed, device=device, dtype=dtype, strong=strong, part=part)

    def evaluation_stream(
        self,
        *,
        batch_size: int,
        device: torch.device | str,
        rows: Sequence[int] | None = None,
        part: Part = WHOLE,
    ) -> EvaluationStream:
        """The evaluation images, or those at the positions `rows`, in order."""
        return EvaluationStream(self, batch_size=batch_size, device=device, rows=rows, part=part)

    def on(self, device: torch.device | str) -> DeviceImages:
        """All views of the training images on `device`: one copy for equal content."""
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
            content=self.evaluation_content,
            mean=self.mean,
            std=self.std,
            pad=0,
            flip=False,
            device=full_device(device),
        )

    @cached_property
    def evaluation_content(self) -> str:
        """Equal for data sets with the same evaluation images in the same order."""
        # `digest["test"]` ignores the order of the test set; in memory the order matters.
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
    faults = []
    if pad < 0:
        faults.append(f"dataset.pad must be >= 0, got {pad}: set dataset.pad to 0 for no random crops")
    elif pad > (size := images.shape[1]):
        faults.append(f"dataset.pad must be at most the image size ({size}), got {pad}: set dataset.pad to 4")
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
