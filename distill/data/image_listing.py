"""The classes and images that class folders or tar shards hold, in the order of the data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.image_index import SPLITS, ImageIndex, folder_files, is_image, shard_files
from distill.data.image_stream import ImageFiles, workers
from distill.data.small_images import DataNotFound

PREPARE = "python scripts/prepare_imagenet.py --val {val} --devkit ILSVRC2012_devkit_t12.tar.gz --out {root}"


Indexed = tuple[ImageFiles, dict[int, str]]  # the images of a split, and by position what is wrong with damaged ones


Row = tuple[int, str, str, str, int]  # label, folder, name, file, number in the file: in this order


def from_folders(root: Path, wanted: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Indexed]]:
    """Classes and images of `root/train/CLASS/` and of `root/val/CLASS/`, ordered as by torchvision's ImageFolder."""
    if not (root / "train").is_dir():
        raise DataNotFound(
            f"there is no folder {root / 'train'}: put the training images of each class into {root}/train/CLASS/, or "
            "set dataset.root to the folder that holds train and val"
        )
    folders = {"train": "train", "evaluation": next((n for n in SPLITS["evaluation"] if (root / n).is_dir()), "")}
    listed: dict[str, list[str]] = {}
    for split in wanted:
        if not folders[split]:
            raise DataNotFound(
                f"{root} has no folder val or test to evaluate on: add one, or set dataset.holdout=N to hold out N of "
                "the training images"
            )
        listed[split] = sorted(folder_files(root, folders[split]))
        if not listed[split]:
            raise ValueError(_nothing_found(root, folders[split]))
    found = {split: sorted({name.split("/")[1] for name in names}) for split, names in listed.items()}
    empty = {each.name for each in (root / "train").iterdir() if each.is_dir() and not each.name.startswith(".")}
    classes = tuple(sorted(empty | set(found["train"])))
    if len(classes) < 2:
        raise ValueError(
            f"{root / 'train'} has a single class, {classes[0]}: a data set needs at least two class folders"
        )
    strange = [name for name in found.get("evaluation", []) if name not in classes]
    if strange:
        raise ValueError(
            f"{root / folders['evaluation'] / strange[0]} is a class without training images: name the class folders "
            "of both splits alike"
        )
    entries = ImageIndex(root).of([name for names in listed.values() for name in names], workers=workers())
    number = {name: label for label, name in enumerate(classes)}
    parts = {}
    for split, names in listed.items():
        rows: list[Row] = []
        for name in names:
            below = name.split("/", 1)[1]
            folder, _, base = below.rpartition("/")
            rows.append((number[below.split("/")[0]], folder, base, name, 0))
        parts[split] = _part(root, rows, entries)
    return classes, parts


def _nothing_found(root: Path, folder: str) -> str:
    """Why a split has no class folders with images in it."""
    flat = sum(1 for each in (root / folder).iterdir() if is_image(each.name))
    if not flat:
        return (
            f"{root / folder} holds no JPEG, PNG or WebP images in class folders: put them into {root}/{folder}/CLASS/"
        )
    text = f"{root / folder} holds {flat:,} images without class folders"
    if folder == "val":
        command = PREPARE.format(val=root / folder, root=root)
        return f"{text}: sort them into {root}/val/CLASS/; for ImageNet's validation images `{command}` does it"
    return f"{text}: sort them into {root}/{folder}/CLASS/"


def from_shards(root: Path, wanted: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Indexed]]:
    """Classes and images of the tar files below `root`; `_shard_classes` says how classes are named."""
    listed = {split: shard_files(root, split) for split in wanted}
    for split, names in listed.items():
        if not names:
            words = " or ".join(SPLITS[split][:1] if split == "train" else ("val", "test"))
            hold = "" if split == "train" else ", or set dataset.holdout=N to hold out N of the training images"
            raise DataNotFound(
                f"no tar file below {root} has {words} in its name: set dataset.shards to their folder{hold}"
            )
    entries = ImageIndex(root).of([name for names in listed.values() for name in names], workers=workers())
    members = {
        split: [
            (each.member or "", each.label, name, k) for name in names for k, each in enumerate(entries[name].images)
        ]
        for split, names in listed.items()
    }
    classes, label_of = _shard_classes(root, [row for rows in members.values() for row in rows])
    parts = {}
    for split, found in members.items():
        rows: list[Row] = []
        for member, label, name, k in found:
            folder, _, base = member.rpartition("/")
            rows.append((label_of(member, label), folder, base, name, k))
        parts[split] = _part(root, rows, entries)
    return classes, parts


def _shard_classes(
    root: Path, rows: Sequence[tuple[str, int | None, str, int]]
) -> tuple[tuple[str, ...], Callable[[str, int | None], int]]:
    """Names of the classes, and a member's label.

    A label is the number in the sample's `.cls`; without any, classes are the members' folders in order. A class is
    named by its line in `classes.txt`, else by its folder where each class has one of its own, else by its number."""
    folders = [member.split("/")[0] if "/" in member else "" for member, *_ in rows]
    if all(label is None for _, label, *_ in rows):
        classes = tuple(sorted(set(folders)))
        if "" in classes or len(classes) < 2:
            raise ValueError(
                f"the shards in {root} state no classes: add a member KEY.cls with its number to each sample"
            )
        number = {name: label for label, name in enumerate(classes)}
        return classes, lambda member, _: number[member.split("/")[0]]
    bare = next((f"{file} ({member})" for member, label, file, _ in rows if label is None), None)
    if bare is not None:
        raise ValueError(f"{root / bare} has no label: add a member KEY.cls with the number of its class")
    labels = [int(label or 0) for _, label, *_ in rows]
    count = max(labels) + 1
    listed = root / "classes.txt"
    pairs = set(zip(labels, folders, strict=True))
    names = dict(pairs)
    if listed.is_file():
        classes = tuple(
            listed.read_text(encoding="utf-8").split("\n")[: -1 if listed.read_bytes().endswith(b"\n") else None]
        )
        if len(classes) < count:
            raise ValueError(
                f"{listed} names {len(classes)} classes, the shards have labels up to {count - 1}: add a line each"
            )
    elif "" not in names.values() and len(pairs) == count == len(set(names.values())):
        classes = tuple(names[label] for label in range(count))
    else:
        classes = tuple(str(label) for label in range(count))
    return classes, lambda _, label: int(label or 0)


def _part(root: Path, rows: list[Row], entries: dict[str, Any]) -> Indexed:
    """The images of a split in their order: by class, folder and name."""
    rows.sort()
    images = [entries[file].images[k] for *_, file, k in rows]
    files = ImageFiles(
        root,
        files=tuple(file for *_, file, _ in rows),
        members=tuple(each.member for each in images),
        names=tuple(f"{folder}/{base}" for _, folder, base, *_ in rows),
        offsets=np.array([each.offset for each in images], dtype=np.int64),
        lengths=np.array([each.length for each in images], dtype=np.int64),
        heights=np.array([each.height for each in images], dtype=np.int32),
        widths=np.array([each.width for each in images], dtype=np.int32),
        labels=np.array([row[0] for row in rows], dtype=np.int64),
        digests=tuple(each.digest for each in images),
    )
    return files, {row: each.fault for row, each in enumerate(images) if each.fault}
