"""Data sets of photographs: a folder per class, or tar shards, of which an epoch is decoded while it is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from distill.data.dataset import held_out, limited
from distill.data.image_decode import RESAMPLE, Resample
from distill.data.image_listing import from_folders, from_shards
from distill.data.image_stream import ImageFiles, KeptPixels, PhotoEvaluation, PhotoStream, Preparation
from distill.data.resident import Channels, checked_channels
from distill.data.small_images import DataNotFound
from distill.data.stream import WHOLE, Part
from distill.data.strong import StrongView

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
IMAGENET_COUNTS = {"train": 1_281_167, "evaluation": 50_000}
IMAGENETTE = [
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
]
SHOWN = 10  # damaged images that a message lists

Scale = tuple[float, float]


@dataclass(frozen=True, eq=False)
class PhotoDataset:
    """Encoded images with labels, split for training and evaluation, and how they become pixels.

    `train` are the images trained on, after limit and hold-out; `evaluation` the validation images or, while `holdout`
    > 0, the held-out ones: the validation images are then not even read. `digest` is as in `ImageDataset`, of the
    manifest (name below its split, label, bytes, sha256 of the bytes). `skipped` names damaged images that were left
    out. Crops cannot be numbered, so `num_views` is None.
    """

    train: ImageFiles
    evaluation: ImageFiles
    class_names: tuple[str, ...]
    preparation: Preparation
    holdout: int
    digest: dict[str, str | None]
    skipped: tuple[str, ...] = ()

    num_views = None

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """(N,) of the images trained on."""
        return self.train.labels

    @property
    def evaluation_labels(self) -> NDArray[np.int64]:
        """(M,) of the evaluation images."""
        return self.evaluation.labels

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def image_size(self) -> int:
        """H = W of the crops in pixels."""
        return self.preparation.size

    @property
    def mean(self) -> Channels:
        """Per channel, for images in 0..1."""
        return self.preparation.mean

    @property
    def std(self) -> Channels:
        """Per channel, for images in 0..1."""
        return self.preparation.std

    @property
    def split(self) -> Literal["test", "holdout"]:
        """What the evaluation images are."""
        return "holdout" if self.holdout else "test"

    @property
    def top5(self) -> bool:
        """Whether accuracies are also counted among the five likeliest classes: it is usual for such data."""
        return self.num_classes > 5

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know before a run starts."""
        if not self.skipped:
            return ()
        more = f", and {len(self.skipped) - SHOWN} more" if len(self.skipped) > SHOWN else ""
        images = "1 damaged image" if len(self.skipped) == 1 else f"{len(self.skipped)} damaged images"
        return (f"left out {images}: {'; '.join(self.skipped[:SHOWN])}{more}",)

    @cached_property
    def evaluation_images(self) -> KeptPixels:
        """The evaluation images as pixels (M, H, H, 3); a row is decoded when it is indexed."""
        return KeptPixels(self.evaluation, self.preparation)

    @cached_property
    def evaluation_content(self) -> Hashable:
        """Equal for data sets with the same evaluation images in the same order."""
        how = self.preparation
        return (_manifest_digest(self.evaluation, self.num_classes), how.size, how.resize, how.resample)

    def identity(self) -> dict[str, Any]:
        """What of the data can change a run's numbers: their content and how they become pixels, not where they lie."""
        how = self.preparation
        return {
            **self.digest,
            "holdout": self.holdout,
            "mean": list(how.mean),
            "std": list(how.std),
            "size": how.size,
            "resize": how.resize,
            "scale": list(how.scale),
            "ratio": list(how.ratio),
            "flip": how.flip,
            "resample": how.resample,
            **({"skipped": len(self.skipped)} if self.skipped else {}),
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
    ) -> PhotoStream:
        """The training images, shuffled and cropped anew in every epoch."""
        return PhotoStream(
            self.train,
            self.preparation,
            content=(self.digest["train"], self.holdout, self.preparation),
            batch_size=batch_size,
            seed=seed,
            device=device,
            dtype=dtype,
            strong=strong,
            part=part,
        )

    def evaluation_stream(
        self,
        *,
        batch_size: int,
        device: torch.device | str,
        rows: Sequence[int] | None = None,
        part: Part = WHOLE,
    ) -> PhotoEvaluation:
        """The evaluation images, or those at the positions `rows`, unaugmented and in order."""
        chosen = range(len(self.evaluation)) if rows is None else rows
        own = [chosen[row] for row in part.rows(len(chosen))]
        everything = len(own) == len(self.evaluation) and rows is None
        files = self.evaluation if everything else self.evaluation.at(np.asarray(own, dtype=np.int64))
        return PhotoEvaluation(
            self.evaluation_images if everything else KeptPixels(files, self.preparation),
            files.labels,
            content=(self.evaluation_content, self.preparation, None if rows is None else tuple(rows), part),
            rows=own,
            count=len(chosen),
            batch_size=batch_size,
            device=device,
            top5=self.top5,
        )


def image_folder(
    *,
    root: str | None = None,
    shards: str | None = None,
    size: int = 224,
    resize: int | None = None,
    scale: Scale = (0.08, 1.0),
    ratio: Scale = (0.75, 1.3333333333333333),
    flip: bool = True,
    resample: Resample = "pillow",
    limit: int | None = None,
    holdout: int = 0,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    skip_damaged: bool = False,
) -> PhotoDataset:
    """Photographs of any size in `root/train/CLASS/` and `root/val/CLASS/` (or `test`), or in tar files below `shards`.

    Training images are cropped at random as torchvision's RandomResizedCrop does (`scale`: area, `ratio`: width over
    height), evaluation images resized to `resize` on the shorter side (None: 8/7 of `size`) and cut to `size`. Raises
    ValueError for values out of range, for classes that do not match, and for damaged images unless `skip_damaged`."""
    return _photographs(
        root,
        shards,
        _preparation(size, _shorter(size, resize, 8 / 7), scale, ratio, flip, resample, mean, std),
        limit=limit,
        holdout=holdout,
        skip_damaged=skip_damaged,
    )


def imagenette(
    *,
    root: str | None = None,
    shards: str | None = None,
    size: int = 128,
    resize: int | None = None,
    scale: Scale = (0.08, 1.0),
    ratio: Scale = (0.75, 1.3333333333333333),
    flip: bool = True,
    resample: Resample = "pillow",
    limit: int | None = None,
    holdout: int = 0,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    skip_damaged: bool = False,
) -> PhotoDataset:
    """Imagenette, ten classes of ImageNet (folders named by WordNet id); `resize` is 9/8 of `size`, the rest as in
    `image_folder`."""

    def check(names: Sequence[str], counts: dict[str, int], place: Path) -> None:
        if list(names) != IMAGENETTE:
            raise ValueError(
                f"{place} does not hold Imagenette's ten classes ({IMAGENETTE[0]} to {IMAGENETTE[-1]}), but "
                f"{len(names)} classes from {names[0]} to {names[-1]}: use dataset=image_folder for other photographs"
            )

    return _photographs(
        root,
        shards,
        _preparation(size, _shorter(size, resize, 9 / 8), scale, ratio, flip, resample, mean, std),
        limit=limit,
        holdout=holdout,
        skip_damaged=skip_damaged,
        check=check,
    )


def imagenet(
    *,
    root: str | None = None,
    shards: str | None = None,
    size: int = 224,
    resize: int | None = None,
    scale: Scale = (0.08, 1.0),
    ratio: Scale = (0.75, 1.3333333333333333),
    flip: bool = True,
    resample: Resample = "pillow",
    limit: int | None = None,
    holdout: int = 0,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    skip_damaged: bool = False,
) -> PhotoDataset:
    """ImageNet-1k (Russakovsky et al., 2015): 1,281,167 + 50,000 images of 1,000 classes in the order of WordNet ids.

    Class folders are named by WordNet id. Raises ValueError for other counts; otherwise as `image_folder`."""

    def check(names: Sequence[str], counts: dict[str, int], place: Path) -> None:
        wrong = [f"{counts[split]:,} images in {split}" for split in counts if counts[split] != IMAGENET_COUNTS[split]]
        wrong += [f"{len(names):,} classes"] if len(names) != 1000 else []
        if wrong:
            raise ValueError(
                f"{place} is not the whole of ImageNet-1k (1,000 classes, 1,281,167 training and 50,000 validation "
                f"images): it has {' and '.join(wrong)}; complete it, or use dataset=image_folder for a part of it"
            )

    return _photographs(
        root,
        shards,
        _preparation(size, _shorter(size, resize, 8 / 7), scale, ratio, flip, resample, mean, std),
        limit=limit,
        holdout=holdout,
        skip_damaged=skip_damaged,
        check=check,
    )


def _shorter(size: int, resize: int | None, ratio: float) -> int:
    """The shorter side of an evaluation image before its centre is cut out: `resize`, or this ratio times `size`."""
    return round(size * ratio) if resize is None else resize


def _preparation(
    size: int,
    resize: int,
    scale: Scale,
    ratio: Scale,
    flip: bool,
    resample: Resample,
    mean: Channels,
    std: Channels,
) -> Preparation:
    """The checked values. Raises ValueError with every fault."""
    faults = []
    if size < 1:
        faults.append(f"dataset.size must be >= 1, got {size}: set the side of a crop in pixels")
    if resize < size:
        faults.append(f"dataset.resize must be at least dataset.size ({size}), got {resize}: set it to {size} or more")
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        faults.append(f"dataset.scale must be two shares of an image's area, 0 < low <= high <= 1, got {list(scale)}")
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
        faults.append(f"dataset.ratio must be two ratios of width to height, 0 < low <= high, got {list(ratio)}")
    if resample not in RESAMPLE:
        faults.append(f"dataset.resample must be pillow or torch, got {resample}: choose one")
    channels = []
    for name, values, positive in (("mean", mean, False), ("std", std, True)):
        try:
            channels.append(checked_channels(name, values, positive=positive))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    low_high = [(float(each[0]), float(each[1])) for each in (scale, ratio)]
    return Preparation(size, resize, low_high[0], low_high[1], flip, resample, *channels)


Check = Callable[[Sequence[str], dict[str, int], Path], None]


def _photographs(
    root: str | None,
    shards: str | None,
    preparation: Preparation,
    *,
    limit: int | None,
    holdout: int,
    skip_damaged: bool,
    check: Check = lambda names, counts, place: None,
) -> PhotoDataset:
    """Find, read once, check and split the images; `check` gets the class names and the counts by split."""
    if (root is None) == (shards is None):
        text = "neither is set" if root is None else "both are set"
        raise ValueError(
            f"dataset.root (class folders) or dataset.shards (tar files) must name a folder, {text}: set one"
        )
    place = Path(str(root or shards))
    if not place.is_dir():
        key = "root" if shards is None else "shards"
        raise DataNotFound(f"there is no folder {place}: set dataset.{key} to the folder that holds train and val")
    wanted = ("train",) if holdout else ("train", "evaluation")
    names, parts = from_shards(place, wanted) if root is None else from_folders(place, wanted)
    check(names, {split: len(files) for split, (files, _) in parts.items()}, place)
    sound, skipped = {}, []
    for split, (files, faults) in parts.items():
        skipped += [f"{files.name(row)} ({fault})" for row, fault in faults.items()]
        sound[split] = files.at(np.setdiff1d(np.arange(len(files)), list(faults))) if faults else files
    if skipped and not skip_damaged:
        others = len(skipped) - 1
        more = f", and {others} more {'is' if others == 1 else 'are'} damaged" if others else ""
        raise ValueError(
            f"{skipped[0]} cannot be decoded{more}: restore such images, or leave them out with "
            "dataset.skip_damaged=true, which counts and lists them"
        )
    return _split(sound, names, preparation, limit=limit, holdout=holdout, skipped=tuple(skipped))


def _split(
    parts: dict[str, ImageFiles],
    names: tuple[str, ...],
    preparation: Preparation,
    *,
    limit: int | None,
    holdout: int,
    skipped: tuple[str, ...],
) -> PhotoDataset:
    train = parts["train"]
    counts = np.bincount(train.labels, minlength=len(names))
    if not counts.all():
        raise ValueError(f"class {names[int(np.argmin(counts))]} has no training images: add some, or remove the class")
    kept = limited(train.labels, limit, num_classes=len(names))
    train = train if kept is None else train.at(kept)
    digest: dict[str, str | None] = {"train": _manifest_digest(train, len(names)), "test": None}
    out = held_out(train.labels, holdout, class_names=names)
    if holdout:
        evaluation, train = train.at(out), train.at(np.delete(np.arange(len(train)), out))
    else:
        evaluation = parts["evaluation"]
        if not len(evaluation):
            raise ValueError(
                "dataset.skip_damaged=true leaves 0 validation images, at least 1 is needed: restore some, or set "
                "dataset.holdout=N to hold out N of the training images"
            )
        digest["test"] = _manifest_digest(evaluation, len(names))
    return PhotoDataset(train, evaluation, names, preparation, holdout, digest, skipped)


def _manifest_digest(files: ImageFiles, num_classes: int) -> str:
    """sha256 of (name, label, bytes, digest of the bytes) of all images in order, and of the number of classes."""
    digest = hashlib.sha256(f"files {len(files)} {num_classes}\n".encode())
    columns = zip(files.names, files.labels.tolist(), files.lengths.tolist(), files.digests, strict=True)
    for name, label, length, content in columns:
        digest.update(f"{name}\0{label}\0{length}\0{content}\n".encode())
    return digest.hexdigest()
