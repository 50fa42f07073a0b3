#!/usr/bin/env python3
"""ImageNet-1k from its official archives into class folders, out/train/WNID/ and out/val/WNID/, and into tar shards.

    python scripts/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \\
        --devkit ILSVRC2012_devkit_t12.tar.gz --out DIR
    python scripts/prepare_imagenet.py --shards SHARDS --out DIR

Each of --train, --val and --devkit is the archive or the folder that it was unpacked to (a tar for each class; 50,000
flat images). A part that is left out is not touched. Files that are there already with the right size are kept, so a
command that was interrupted is typed again. With --shards the class folders of --out are written as tar files in
WebDataset's layout, from which training gives the same results as from the folders.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import loadmat

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
SHARD_IMAGES = 1000
SHUFFLE_SEED = 2012


def members(place: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of an archive or of a folder."""
    if place.is_dir():
        for path in sorted(each for each in place.rglob("*") if each.is_file()):
            yield path.name, path.read_bytes()
        return
    with tarfile.open(place) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield Path(member.name).name, file.read()


def write(path: Path, content: bytes) -> None:
    """Write a file in one step, unless it is there with this size."""
    if path.is_file() and path.stat().st_size == len(content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def prepare_training(place: Path, out: Path) -> int:
    """out/train/WNID/ from a tar for each class, WNID.tar; returns the number of images."""
    count = 0
    for name, content in members(place):
        if not name.endswith(".tar"):
            continue
        with tarfile.open(fileobj=io.BytesIO(content)) as images:
            for member in images:
                file = images.extractfile(member) if member.isfile() else None
                if file is not None:
                    write(out / "train" / name.removesuffix(".tar") / Path(member.name).name, file.read())
                    count += 1
        print(f"train: {name}, {count:,} images", flush=True)
    return count


def validation_classes(devkit: Path) -> list[str]:
    """The WordNet id of each validation image, in the order of their numbers.

    The devkit numbers the classes 1 to 1000 in meta.mat; the ground truth has such a number in each line.
    """
    files = {name: content for name, content in members(devkit) if name in (TRUTH, META)}
    lacking = [name for name in (TRUTH, META) if name not in files]
    if lacking:
        sys.exit(f"{devkit} has no {' and no '.join(lacking)}: give the devkit of task 1 and 2 (ILSVRC2012_devkit_t12)")
    synsets = loadmat(io.BytesIO(files[META]), squeeze_me=True, struct_as_record=False)["synsets"]
    number = {int(each.ILSVRC2012_ID): str(each.WNID) for each in np.atleast_1d(synsets) if int(each.num_children) == 0}
    return [number[int(line)] for line in files[TRUTH].split()]


def prepare_validation(place: Path, devkit: Path, out: Path) -> int:
    """out/val/WNID/ from flat images whose names end with their number; returns the number of images.

    Images that lie flat in out/val are moved there.
    """
    classes = validation_classes(devkit)
    if place.is_dir():
        files = sorted(each for each in place.rglob("*") if each.is_file() and not each.name.startswith("."))
        for file in files:
            target = out / "val" / _class_of(file.name, classes) / file.name
            if file == target:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if place.resolve() == (out / "val").resolve():
                file.rename(target)
            elif not target.is_file() or target.stat().st_size != file.stat().st_size:
                shutil.copyfile(file, target)
        return len(files)
    count = 0
    for name, content in members(place):
        write(out / "val" / _class_of(name, classes) / name, content)
        count += 1
    return count


def _class_of(name: str, classes: list[str]) -> str:
    digits = name.partition(".")[0].rpartition("_")[2]
    if not digits.isdigit() or not 1 <= int(digits) <= len(classes):
        sys.exit(f"{name} is not the name of a validation image (ILSVRC2012_val_00000001.JPEG to {len(classes):,})")
    return classes[int(digits) - 1]


def write_shards(folder: Path, shards: Path, *, images: int) -> None:
    """Tar files of `images` images each, train-000000.tar and so on; training images are in a fixed random order.

    A shard is written in one step, and one that is there is kept.
    """
    for split in ("train", "val"):
        files = sorted((folder / split).glob("*/*")) if (folder / split).is_dir() else []
        names = sorted({file.parent.name for file in files})
        order = np.random.RandomState(SHUFFLE_SEED).permutation(len(files)) if split == "train" else range(len(files))
        for number, first in enumerate(range(0, len(files), images)):
            target = shards / f"{split}-{number:06d}.tar"
            if target.is_file():
                continue
            shards.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.part")
            with tarfile.open(temporary, "w") as shard:
                for row in order[first : first + images]:
                    file = files[int(row)]
                    key = f"{file.parent.name}/{file.name}"
                    _add(shard, key, file.read_bytes())
                    stem, _, _ = file.name.partition(".")
                    _add(shard, f"{file.parent.name}/{stem}.cls", str(names.index(file.parent.name)).encode())
            os.replace(temporary, target)
            print(f"{target.name}: {min(first + images, len(files)):,} of {len(files):,} images", flush=True)


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, metavar="TAR", help="archive or folder of the training tars")
    parser.add_argument("--val", type=Path, metavar="TAR", help="archive or folder of the validation images")
    parser.add_argument("--devkit", type=Path, metavar="TAR", help="archive or folder of the devkit, for --val")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of train/ and val/")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="write tar shards of --out here")
    parser.add_argument("--shard-images", type=int, default=SHARD_IMAGES, metavar="N", help="images of a shard")
    given = parser.parse_args(words)
    for place in (given.train, given.val, given.devkit):
        if place is not None and not place.exists():
            parser.error(f"there is no {place}")
    if given.val and not given.devkit:
        parser.error("--val needs --devkit: the classes of the validation images are in it")
    if not (given.train or given.val or given.shards):
        parser.error("nothing to do: give --train, --val or --shards")
    if given.train:
        print(f"{prepare_training(given.train, given.out):,} training images in {given.out / 'train'}")
    if given.val:
        print(f"{prepare_validation(given.val, given.devkit, given.out):,} validation images in {given.out / 'val'}")
    if given.shards:
        write_shards(given.out, given.shards, images=given.shard_images)


if __name__ == "__main__":
    main()
