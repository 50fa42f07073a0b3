"""From the bytes of a photograph to uint8 pixels: decoding, crops, flips and resizing as torchvision does them.

The reference is torchvision's pipeline on Pillow images: `ImageFolder`'s loader, `RandomResizedCrop`,
`RandomHorizontalFlip`, `Resize` and `CenterCrop`, all bilinear. With `resample=pillow` the bytes are equal. With
`resample=torch`, which is faster, the resizing is torch's antialiased uint8 kernel; its fixed-point arithmetic rounds
differently, by at most two levels of 255. JPEG is decoded by simplejpeg (libjpeg-turbo, as in Pillow, with equal
pixels). What it refuses is decoded by Pillow: other formats, CMYK, and files with recoverable errors.

As in ImageFolder, an EXIF orientation is ignored, and grey, CMYK, palette and transparent images become RGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]  # (H, W, 3)
Box = tuple[int, int, int, int]  # top, left, height, width
Resample = Literal["pillow", "torch"]
RESAMPLE = ("pillow", "torch")
CONVERTED_ALIKE = ("YCbCr", "RGB", "Gray")  # colour spaces; CMYK becomes RGB with other rounding than in Pillow


class Undecodable(ValueError):
    """The bytes are no image that can be decoded; the text is the reason."""


def dimensions(data: bytes) -> tuple[int, int]:
    """Height and width of an encoded image, from its header alone. Raises Undecodable."""
    if not data:
        raise Undecodable("the file is empty")
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        return height, width
    except ValueError:
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.height, image.width
        except Exception as error:  # whatever a decoder of Pillow raises on damaged bytes
            raise Undecodable(_reason(error)) from error


def decode(data: bytes) -> Pixels:
    """The pixels (H, W, 3) of an encoded image. Raises Undecodable."""
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in CONVERTED_ALIKE:
            pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
            return pixels
    except ValueError:
        pass  # no JPEG, or one with an error that Pillow may tolerate
    if not data:
        raise Undecodable("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            # A palette with transparency makes Pillow warn when it is converted to RGB at once; the pixels are equal.
            return np.array((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))
    except Exception as error:  # whatever a decoder of Pillow raises on damaged bytes
        raise Undecodable(_reason(error)) from error


def is_complete(data: bytes) -> bool:
    """Whether a JPEG with a readable header ends with its end marker (a few bytes of padding may follow).

    A cheap test for truncation: what fails it must be decoded to be sure.
    """
    return b"\xff\xd9" in data[-64:]


def training_view(pixels: Pixels, box: Box, flip: bool, *, size: int, resample: Resample) -> Pixels:
    """The crop `box` resized to (size, size, 3), then mirrored if `flip`."""
    return _RESIZE[resample](pixels, box, size, size, flip)


def evaluation_view(pixels: Pixels, *, size: int, resize: int, resample: Resample) -> Pixels:
    """The shorter side resized to `resize` (the longer one rounded down), then the centre (size, size, 3)."""
    height, width = pixels.shape[:2]
    short, long = min(height, width), resize * max(height, width) // min(height, width)
    if short != resize:
        new = (resize, long) if height <= width else (long, resize)
        pixels = _RESIZE[resample](pixels, (0, 0, height, width), new[0], new[1], False)
        height, width = new
    top, left = (round((side - size) / 2) for side in (height, width))  # halves to even, as torchvision rounds
    return pixels[top : top + size, left : left + size]


# Mirrored by the library that resized: numpy takes ten times as long to copy pixels of three bytes backwards.
def _by_pillow(pixels: Pixels, box: Box, height: int, width: int, flip: bool) -> Pixels:
    top, left, rows, columns = box
    line = pixels[0].size  # bytes; Pillow reads the crop out of the image's lines, without a copy of it
    crop = np.ascontiguousarray(pixels).reshape(-1)[top * line + left * 3 :]
    image = Image.frombytes("RGB", (columns, rows), crop, "raw", "RGB", line)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image)


def _by_torch(pixels: Pixels, box: Box, height: int, width: int, flip: bool) -> Pixels:
    top, left, rows, columns = box
    # An RGB image in NHWC order is a channels_last tensor, which the kernel reads and writes without copies of its own;
    # the batch dimension is added first: of a single image, only its stride marks the tensor as channels_last.
    crop = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    images = torch.from_numpy(crop).unsqueeze(0).permute(0, 3, 1, 2)
    with torch.inference_mode():
        resized = torch.nn.functional.interpolate(
            images, size=(height, width), mode="bilinear", align_corners=False, antialias=True
        )
        view = resized[0].permute(1, 2, 0)
        found: Pixels = (view.flip(1) if flip else view).numpy()
    return found


_RESIZE: dict[Resample, Callable[[Pixels, Box, int, int, bool], Pixels]] = {"pillow": _by_pillow, "torch": _by_torch}


def _reason(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
