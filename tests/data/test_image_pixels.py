"""The pixels of photographs are those of torchvision on Pillow images, and the boxes those of its algorithm."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from photographs import encoded, kinds, picture
from PIL import Image
from torchvision.transforms import functional, transforms

from distill.data.image_crops import TRIES, UNIFORMS, crop_boxes, random_crops
from distill.data.image_decode import Undecodable, decode, dimensions, evaluation_view, training_view

KINDS = kinds()


def loaded(data: bytes) -> Image.Image:
    """As torchvision's ImageFolder loads a file."""
    with pytest.warns() if b"tRNS" in data else nothing():
        return Image.open(io.BytesIO(data)).convert("RGB")


class nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_is_that_of_imagefolder(kind: str) -> None:
    image = loaded(KINDS[kind])
    assert np.array_equal(decode(KINDS[kind]), np.asarray(image))
    assert dimensions(KINDS[kind]) == (image.height, image.width)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_view_is_torchvisions_crop_byte_for_byte(kind: str, flip: bool) -> None:
    image = loaded(KINDS[kind])
    heights, widths = np.full(6, image.height, np.int32), np.full(6, image.width, np.int32)
    drawn = random_crops(
        heights, widths, scale=(0.08, 1), ratio=(3 / 4, 4 / 3), flip=False, seed=1, purpose="boxes", epoch=2
    )
    for top, left, height, width in drawn.boxes.tolist():
        expected = functional.resized_crop(image, top, left, height, width, [48, 48])
        expected = functional.hflip(expected) if flip else expected
        box = (top, left, height, width)
        exact = training_view(decode(KINDS[kind]), box, flip, size=48, resample="pillow")
        assert np.array_equal(exact, np.asarray(expected))
        near = training_view(decode(KINDS[kind]), box, flip, size=48, resample="torch")
        assert np.abs(near.astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(("size", "resize"), [(48, 56), (41, 64), (40, 40)])
@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_view_is_torchvisions_byte_for_byte(kind: str, size: int, resize: int) -> None:
    expected = functional.center_crop(functional.resize(loaded(KINDS[kind]), [resize]), [size])
    exact = evaluation_view(decode(KINDS[kind]), size=size, resize=resize, resample="pillow")
    assert np.array_equal(exact, np.asarray(expected))
    near = evaluation_view(decode(KINDS[kind]), size=size, resize=resize, resample="torch")
    assert np.abs(near.astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "no image of a known format"),
        (encoded(picture(90, 90))[:900], "truncated"),
        (encoded(picture(90, 90), "PNG")[:2000], "truncated"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason):
        decode(data)


class Scripted:
    """Stands in for torch in torchvision's module: its draws are the given uniforms, in float64."""

    exp, log, tensor = staticmethod(torch.exp), staticmethod(torch.log), staticmethod(torch.tensor)

    def __init__(self, row: list[float]) -> None:
        self._tries: Iterator[float] = iter([u for t in range(TRIES) for u in (row[t], row[TRIES + t])])
        self._places = iter(row[2 * TRIES :])

    def empty(self, _: int) -> Scripted:
        return self

    def uniform_(self, low: float, high: float) -> torch.Tensor:
        u = next(self._tries)
        return torch.tensor([float(low) + u * (float(high) - float(low))], dtype=torch.float64)

    def randint(self, low: int, high: int, size: tuple[int]) -> torch.Tensor:
        return torch.tensor([int(next(self._places) * high)])


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.5, 0.5), (2.0, 3.0)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_boxes_are_those_of_torchvisions_algorithm(
    scale: tuple[float, float], ratio: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(1, 1), (40, 5000), (900, 12), (333, 500), (500, 333), (2, 3), (224, 224)] * 12
    heights, widths = (np.array(each, np.int32) for each in zip(*sizes, strict=True))
    uniforms = np.random.RandomState(0).random_sample((len(sizes), UNIFORMS))
    found = crop_boxes(heights, widths, uniforms, scale=scale, ratio=ratio)
    for (height, width), row, box in zip(sizes, uniforms.tolist(), found.tolist(), strict=True):
        monkeypatch.setattr(transforms, "torch", Scripted(row))
        image = Image.new("L", (width, height))
        assert tuple(box) == transforms.RandomResizedCrop.get_params(image, list(scale), list(ratio)), (height, width)
    assert (found[:, 0] + found[:, 2] <= heights).all()
    assert (found[:, 1] + found[:, 3] <= widths).all()


def test_crops_depend_on_seed_epoch_and_purpose_and_half_of_them_are_mirrored() -> None:
    sizes = np.full(400, 64, np.int32)

    def drawn(seed: int = 1, epoch: int = 1, purpose: str = "boxes", flip: bool = True) -> tuple[bytes, int]:
        crops = random_crops(
            sizes, sizes, scale=(0.08, 1), ratio=(0.75, 4 / 3), flip=flip, seed=seed, purpose=purpose, epoch=epoch
        )
        return crops.boxes.tobytes(), int(crops.flips.sum())

    boxes, mirrored = drawn()
    assert drawn() == (boxes, mirrored)
    assert 150 < mirrored < 250
    assert drawn(flip=False) == (boxes, 0)
    assert len({drawn(seed=2)[0], drawn(epoch=2)[0], drawn(purpose="strong boxes")[0], boxes}) == 4
