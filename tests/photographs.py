"""Generated photographs of every kind that folders of images hold, as encoded bytes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int, height: int, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Smooth colours with noise: compressible, and different in every pixel."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(x / random.uniform(3, 20) + random.uniform(0, 6)) + np.cos(y / random.uniform(3, 20)) for _ in range(3)
    ]
    values = 128 + 50 * np.stack(waves, axis=2) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def kinds() -> dict[str, bytes]:
    """By what it is, an encoded image that can be decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    palette = picture(70, 50, seed=5).convert("P", palette=Image.Palette.ADAPTIVE)
    return {
        "4:4:4": encoded(picture(120, 90), subsampling=0),
        "4:2:0": encoded(picture(121, 93, seed=1), subsampling=2, quality=70),
        "grey": encoded(picture(80, 100, seed=2, mode="L")),
        "progressive": encoded(picture(90, 90, seed=3), progressive=True),
        "CMYK": encoded(picture(64, 80, seed=4, mode="CMYK")),
        "EXIF orientation 6": encoded(picture(100, 60, seed=6), exif=exif),
        "PNG": encoded(picture(75, 61, seed=7), "PNG"),
        "PNG with alpha": encoded(picture(75, 61, seed=8, mode="RGBA"), "PNG"),
        "PNG with a palette": encoded(palette, "PNG"),
        "PNG with a transparent palette": encoded(palette, "PNG", transparency=bytes(range(256))),
        "WebP": encoded(picture(77, 66, seed=9), "WEBP"),
        "1x1": encoded(picture(1, 1), quality=95),
        "panorama": encoded(picture(5000, 40, seed=10)),
        "tower": encoded(picture(12, 900, seed=11)),
    }


def write_folder(root: Path, *, classes: int = 3, train: int = 8, val: int = 4, size: int = 40) -> Path:
    """`root/train/CLASS/` and `root/val/CLASS/` of JPEGs of several sizes whose colours depend on the class."""
    for split, count, offset in (("train", train, 0), ("val", val, 1000)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for k in range(count):
                seed = offset + 100 * label + k
                image = np.asarray(picture(size + 3 * k, size + 5 * (k % 3), seed=seed)) // 2
                image[..., label % 3] += 100
                (folder / f"{label}_{k}.JPEG").write_bytes(encoded(Image.fromarray(image), quality=85))
    return root


def shards_of(root: Path, folder: Path, *, per_shard: int = 5, labels: bool = True) -> Path:
    """The images of a class-folder data set as tar shards in WebDataset's layout."""
    folder.mkdir()
    classes = sorted(each.name for each in (root / "train").iterdir())
    for split in ("train", "val"):
        files = sorted((root / split).glob("*/*"))
        for number, first in enumerate(range(0, len(files), per_shard)):
            with tarfile.open(folder / f"{split}-{number:06d}.tar", "w") as shard:
                for file in files[first : first + per_shard]:
                    name = f"{file.parent.name}/{file.name}"
                    parts = {name: file.read_bytes()}
                    if labels:
                        parts[f"{name.partition('.')[0]}.cls"] = str(classes.index(file.parent.name)).encode()
                    for member, data in parts.items():
                        info = tarfile.TarInfo(member)
                        info.size = len(data)
                        shard.addfile(info, io.BytesIO(data))
    return folder
