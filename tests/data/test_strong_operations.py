"""Every operation of RandAugment gives Pillow's pixels for equal parameters."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from distill.data.strong_operations import GEOMETRIC_OPERATIONS, PIXEL_OPERATIONS, affine

AFFINE = Image.Transform.AFFINE
Picture = Image.Image


def moved(image: Picture, *coefficients: float) -> Picture:
    return image.transform(image.size, AFFINE, coefficients)


PILLOW: dict[str, Callable[[Picture, float], Picture]] = {
    "Identity": lambda image, _: image,
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, threshold),  # type: ignore[arg-type]
    "Brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "Rotate": lambda image, degrees: image.rotate(degrees),
    "ShearX": lambda image, share: moved(image, 1, share, 0, 0, 1, 0),
    "ShearY": lambda image, share: moved(image, 1, 0, 0, share, 1, 0),
    "TranslateX": lambda image, share: moved(image, 1, 0, share * image.width, 0, 1, 0),
    "TranslateY": lambda image, share: moved(image, 1, 0, 0, 0, 1, share * image.height),
}
RANGES = {  # as published, beside what the operations say of themselves
    "Identity": (0, 1),
    "AutoContrast": (0, 1),
    "Equalize": (0, 1),
    "Posterize": (4, 8),
    "Solarize": (0, 256),
    "Brightness": (0.05, 0.95),
    "Color": (0.05, 0.95),
    "Contrast": (0.05, 0.95),
    "Sharpness": (0.05, 0.95),
    "Rotate": (-30, 30),
    "ShearX": (-0.3, 0.3),
    "ShearY": (-0.3, 0.3),
    "TranslateX": (-0.3, 0.3),
    "TranslateY": (-0.3, 0.3),
}
FUSED = {"Brightness", "Color", "Contrast", "Sharpness"}
# Pillow's blend may be compiled to a fused multiply-add elsewhere, which rounds once less.
ONE_LEVEL = 0 if platform.machine() in ("x86_64", "AMD64") else 1


def pictures(size: int, count: int = 60) -> NDArray[np.uint8]:
    """Noise, noise in narrow ranges, gradients, flat channels, few levels, and black and white."""
    random = np.random.RandomState(size)
    images = random.randint(0, 256, (count, size, size, 3))
    low, span = random.randint(0, 200, (2, count, 1, 1, 3))
    narrow = low + images * np.minimum(span, 255 - low) // 256
    ramp = np.arange(size)[:, None] * 255 // max(1, size - 1) + np.arange(size)
    images[1::5] = narrow[1::5]
    images[2::5] = (ramp[None, :, :, None] + narrow[2::5]) % 256
    images[3::5] = images[3::5] // 86 * 127
    images[4::5] = narrow[4::5] // 16 * 16
    images[0], images[5], images[6, ..., 1] = 0, 255, 77
    images[7] = (random.rand(size, size, 1) < 0.02) * 255
    return images.astype(np.uint8)


def ours(name: str, images: Tensor, amounts: Tensor) -> Tensor:
    for each in PIXEL_OPERATIONS:
        if each.name == name:
            return each.apply(images, amounts)
    (found,) = (each for each in GEOMETRIC_OPERATIONS if each.name == name)
    return affine(images, found.coefficients(amounts, images.shape[1]))


def magnitudes(name: str, count: int) -> Tensor:
    low, high = RANGES[name]
    generator = torch.Generator().manual_seed(len(name))
    drawn = low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
    drawn[:3] = torch.tensor([low, (low + high) / 2, high])
    return drawn


def test_there_are_the_fourteen_with_their_ranges() -> None:
    known = {each.name: (each.low, each.high) for each in (*PIXEL_OPERATIONS, *GEOMETRIC_OPERATIONS)}
    assert known == RANGES
    assert len(PIXEL_OPERATIONS) + len(GEOMETRIC_OPERATIONS) == 14


@pytest.mark.parametrize("size", [32, 13, 2])
@pytest.mark.parametrize("name", list(PILLOW))
def test_an_operation_is_pillows(name: str, size: int) -> None:
    images = pictures(size)
    amounts = magnitudes(name, len(images))
    given = torch.from_numpy(images.copy())
    found = ours(name, given, amounts)
    assert found.dtype == torch.uint8
    assert torch.equal(given, torch.from_numpy(images))  # nothing is changed in place
    for image, amount, result in zip(images, amounts.tolist(), found.numpy(), strict=True):
        expected = np.asarray(PILLOW[name](Image.fromarray(image), amount)).astype(int)
        assert np.abs(expected - result).max() <= (ONE_LEVEL if name in FUSED else 0)


@pytest.mark.parametrize("name", [name for name in PILLOW if name != "Identity"])
def test_an_operation_changes_images(name: str) -> None:
    images = torch.from_numpy(pictures(32))
    changed = (ours(name, images, magnitudes(name, 60)) != images).flatten(1).any(1)
    assert int(changed.sum()) >= 25


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_geometric_operations_are_pillows_for_every_amount(name: str) -> None:
    """The places alone, of one image whose pixels all differ, for a fine grid of amounts."""
    low, high = RANGES[name]
    amounts = torch.linspace(low, high, 1501, dtype=torch.float64)  # halves of pixels are among them
    places = torch.arange(1, 1025, dtype=torch.int32)
    image = torch.stack([places & 255, places >> 8, places * 0], dim=1).to(torch.uint8).view(32, 32, 3)
    found = ours(name, image.expand(len(amounts), -1, -1, -1).contiguous(), amounts).numpy()
    picture = Image.fromarray(image.numpy())
    for amount, result in zip(amounts.tolist(), found, strict=True):
        np.testing.assert_array_equal(result, np.asarray(PILLOW[name](picture, amount)))


@pytest.mark.parametrize("name", ["Color", "Contrast", "Sharpness", "Brightness"])
def test_a_factor_of_one_keeps_the_image(name: str) -> None:
    images = torch.from_numpy(pictures(32))
    assert torch.equal(ours(name, images, torch.ones(60, dtype=torch.float64)), images)


def test_grey_is_pillows_for_many_colours() -> None:
    from distill.data.strong_operations import grey

    colours = np.random.RandomState(0).randint(0, 256, (1, 700, 700, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(colours[0]).convert("L"))
    np.testing.assert_array_equal(grey(torch.from_numpy(colours))[0].numpy(), expected)


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
def test_translations_by_almost_half_a_pixel_are_pillows(name: str) -> None:
    """Pillow rounds these in floating point: 16 fractional bits would take them for the next half."""
    images = torch.from_numpy(pictures(32)[:6])
    amounts = torch.tensor([3.5 - 1e-6, 3.5, 3.5 + 1e-6, -2.5 - 1e-6, -2.5, -2.5 + 1e-6], dtype=torch.float64) / 32
    found = ours(name, images, amounts).numpy()
    for image, amount, result in zip(images.numpy(), amounts.tolist(), found, strict=True):
        np.testing.assert_array_equal(result, np.asarray(PILLOW[name](Image.fromarray(image), amount)))
