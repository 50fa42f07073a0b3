"""Batches with strong views: what they hold, and what a strong view depends on."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import pytest
import torch
from accelerator import DEVICE, waiting_is_an_error
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms import functional as F

import distill.data.strong as render
from distill.data import Batch, ImageDataset, ImageStream, StrongView, digits, draw_generator, synthetic
from distill.data.resident import split_view
from distill.data.strong import StrongDraws
from distill.data.strong_operations import OPERATIONS

Picture = Image.Image
STRONG = StrongView()
# Elsewhere Pillow's blend may be compiled to a fused multiply-add, and a level may cross a threshold after it.
EXACT = platform.machine() in ("x86_64", "AMD64")


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return synthetic(train_size=150, image_size=8, pad=2)


def stream(
    data: ImageDataset, strong: StrongView | None = STRONG, *, seed: int = 0, batch_size: int = 64
) -> ImageStream:
    return ImageStream(data, batch_size=batch_size, seed=seed, device="cpu", strong=strong)


def strong_of(batch: Batch) -> Tensor:
    assert batch.strong is not None
    return batch.strong


def joined(stream: ImageStream, epoch: int = 0) -> Tensor:
    return torch.cat([strong_of(batch) for batch in stream.epoch(epoch)])


def moved(image: Picture, *coefficients: float) -> Picture:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def lerp(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


PIPELINE: dict[str, Callable[[Picture, float], Picture]] = {
    "Identity": lambda image, _: image,
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Posterize": lambda image, m: ImageOps.posterize(image, int(lerp(4, 8, m))),
    "Solarize": lambda image, m: ImageOps.solarize(image, lerp(0, 256, m)),  # type: ignore[arg-type]
    "Brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(lerp(0.05, 0.95, m)),
    "Color": lambda image, m: ImageEnhance.Color(image).enhance(lerp(0.05, 0.95, m)),
    "Contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(lerp(0.05, 0.95, m)),
    "Sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(lerp(0.05, 0.95, m)),
    "Rotate": lambda image, m: image.rotate(lerp(-30, 30, m)),
    "ShearX": lambda image, m: moved(image, 1, lerp(-0.3, 0.3, m), 0, 0, 1, 0),
    "ShearY": lambda image, m: moved(image, 1, 0, 0, lerp(-0.3, 0.3, m), 1, 0),
    "TranslateX": lambda image, m: moved(image, 1, 0, lerp(-0.3, 0.3, m) * image.width, 0, 1, 0),
    "TranslateY": lambda image, m: moved(image, 1, 0, 0, 0, 1, lerp(-0.3, 0.3, m) * image.height),
}


def pillow_view(data: ImageDataset, index: int, draws: StrongDraws, row: int, view: StrongView) -> Tensor:
    """One image's strong view, step by step with torchvision and Pillow."""
    size = data.image_size
    dy, dx, flip = (int(part) for part in split_view(draws.view[row], pad=data.pad, flip=data.flip))
    image = F.crop(F.pad(Image.fromarray(data.train_images[index]), data.pad), dy, dx, size, size)
    image = F.hflip(image) if flip else image
    for operation, magnitude in zip(draws.operation[row].tolist(), draws.magnitude[row].tolist(), strict=True):
        image = PIPELINE[OPERATIONS[operation].name](image, magnitude)
    side, row_centre, column_centre = (draws.square[row] * size).tolist()
    centres = np.arange(size) + 0.5
    half = side * view.cutout / 2
    rows = (centres >= row_centre - half) & (centres < row_centre + half)
    columns = (centres >= column_centre - half) & (centres < column_centre + half)
    pixels = np.array(image)
    pixels[np.outer(rows, columns)] = view.fill
    return F.normalize(F.to_tensor(pixels), list(data.mean), list(data.std))


@pytest.mark.parametrize("view", [StrongView(), StrongView(ops=3, cutout=1.0, fill=(1, 2, 3))])
@pytest.mark.parametrize(
    "make",
    [
        lambda: synthetic(train_size=200),
        lambda: synthetic(train_size=200, image_size=13, pad=0, flip=False),
        lambda: synthetic(train_size=100, image_size=8, pad=0),
        lambda: digits(limit=100),
    ],
)
def test_a_strong_view_is_what_pillow_makes_of_its_draws(make: Callable[[], ImageDataset], view: StrongView) -> None:
    data = make()
    count = len(data.train_labels)
    draws = view.draw(count, num_views=data.num_views, generator=draw_generator(5, "strong", 3))
    row = off = 0
    for batch in stream(data, view, seed=5).epoch(3):
        for index, found in zip(batch.index.tolist(), strong_of(batch), strict=True):
            off += int(((pillow_view(data, index, draws, row, view) - found).abs() > 1e-5).sum())
            row += 1
    assert row == count
    assert off <= (0 if EXACT else count)  # of 3 * size^2 values an image


def test_the_weak_part_is_the_same_as_without(data: ImageDataset) -> None:
    plain, both = (list(stream(data, view).epoch(4)) for view in (None, StrongView()))
    assert len(plain) == len(both) == 3
    for first, second in zip(plain, both, strict=True):
        assert first.strong is None
        assert all(torch.equal(getattr(first, k), getattr(second, k)) for k in ("images", "labels", "index", "view"))


def test_strong_views_are_normalised_float32_in_channels_last_memory(data: ImageDataset) -> None:
    for batch in stream(data).epoch(0):
        strong = strong_of(batch)
        assert strong.dtype == torch.float32
        assert strong.shape == batch.images.shape
        assert strong.is_contiguous(memory_format=torch.channels_last)
        assert strong.stride() == batch.images.stride()
        levels = strong.permute(0, 2, 3, 1) * torch.tensor(data.std) + torch.tensor(data.mean)
        torch.testing.assert_close((levels * 255).round() / 255, levels, atol=1e-5, rtol=0)


def test_the_crop_and_flip_are_drawn_anew() -> None:
    data = synthetic(train_size=300)
    source = data.on("cpu")
    bare = StrongView(ops=0, cutout=0)
    draws = bare.draw(300, num_views=data.num_views, generator=draw_generator(0, "strong", 0))
    same = 0
    for batch, view in zip(stream(data, bare).epoch(0), torch.split(draws.view, 64), strict=True):
        assert torch.equal(strong_of(batch), source.images(batch.index, view))
        same += int((batch.view == view).sum())
    assert same < 12  # 2 expected of 162 views
    assert draws.view.unique().numel() > 110


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_an_epoch_with_strong_views_resumes_from_any_step(data: ImageDataset, start: int) -> None:
    rest = list(stream(data).epoch(5, start=start))
    expected = list(stream(data).epoch(5))[start:]
    assert len(rest) == len(expected) == 3 - start
    assert all(torch.equal(strong_of(a), strong_of(b)) for a, b in zip(rest, expected, strict=True))


@pytest.mark.parametrize("size", [8, 13])
def test_a_strong_view_does_not_depend_on_the_batch_around_it(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = synthetic(train_size=150, image_size=size, pad=2)
    expected = joined(stream(data))
    assert torch.equal(joined(stream(data, batch_size=7)), expected)
    assert torch.equal(joined(stream(data, batch_size=150)), expected)
    monkeypatch.setattr(render, "CHUNK_PIXELS", 1)
    assert torch.equal(joined(stream(data, batch_size=1)), expected)
    assert torch.equal(joined(stream(data, batch_size=64)), expected)


def test_several_batches_are_made_at_a_time_and_of_large_images_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    work = render.randaugment
    monkeypatch.setattr(render, "randaugment", lambda images, chunk: made.append(len(images)) or work(images, chunk))
    monkeypatch.setattr(render, "CHUNK_PIXELS", 100 * 8 * 8)
    data = synthetic(train_size=150, image_size=8)
    joined(stream(data, batch_size=30))
    assert made == [90, 60]
    made.clear()
    joined(stream(data, batch_size=110))
    assert made == [110, 40]


def test_equal_seeds_give_equal_strong_views_and_unequal_ones_do_not(data: ImageDataset) -> None:
    assert torch.equal(joined(stream(data, seed=1), 2), joined(stream(data, seed=1), 2))
    first = StrongView().draw(150, num_views=50, generator=draw_generator(1, "strong", 2))
    for seed, epoch in ((1, 3), (2, 2)):
        other = StrongView().draw(150, num_views=50, generator=draw_generator(seed, "strong", epoch))
        for name in ("view", "operation", "magnitude", "square"):
            assert not torch.equal(getattr(first, name), getattr(other, name))
    ours = stream(data, seed=1)
    images = {epoch: joined(ours, epoch)[ours.draws(epoch)[0].argsort()] for epoch in (2, 3)}  # by image
    assert int((images[2] == images[3]).flatten(1).all(1).sum()) <= 3


def test_strong_draws_do_not_touch_or_read_torchs_own_generator(data: ImageDataset) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    strong = joined(stream(data))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(joined(stream(data)), strong)


def test_streams_share_batches_only_where_their_strong_views_are_equal(data: ImageDataset) -> None:
    views = [None, StrongView(), StrongView(ops=1), StrongView(cutout=0.25), StrongView(fill=(0, 0, 0))]
    keys = [stream(data, view).key for view in views]
    assert len(set(keys)) == len(views)
    assert stream(data, StrongView(ops=2, cutout=0.5, fill=(125, 123, 114))).key == keys[1]


@pytest.mark.gpu
def test_a_gpu_sees_the_same_strong_views_without_waiting_for_the_host() -> None:
    data = synthetic(train_size=2000)
    batches = ImageStream(data, batch_size=64, seed=0, device=DEVICE, strong=StrongView()).epoch(0)
    on_device = [next(batches)]
    with waiting_is_an_error():
        on_device += list(batches)
    level = 1 / 255 / min(data.std)
    differences = [
        (strong_of(theirs).cpu() - strong_of(ours)).abs()
        for ours, theirs in zip(stream(data).epoch(0), on_device, strict=True)
    ]
    assert all(strong_of(batch).is_contiguous(memory_format=torch.channels_last) for batch in on_device)
    assert torch.cat(differences).max() < 1.01 * level  # where a kernel divides or multiplies with another rounding
    assert float((torch.cat(differences) > 1e-5).float().mean()) < 1e-3
