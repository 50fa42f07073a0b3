"""The one gather gives, view for view, what torchvision's pad, crop, flip, ToTensor and Normalize give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from distill.data import DeviceImages, ImageDataset, synthetic
from distill.data import resident as resident_module
from distill.data.resident import HostMemory, num_views, split_view


def torchvision_view(data: ImageDataset, index: int, view: int) -> Image.Image:
    """The view of that number, (dy * (2p+1) + dx) * F + flip, by torchvision's functions."""
    factor = 2 if data.flip else 1
    flip = view % factor
    dy, dx = divmod(view // factor, 2 * data.pad + 1)
    image = F.pad(Image.fromarray(data.train_images[index]), data.pad)
    image = F.crop(image, dy, dx, data.image_size, data.image_size)
    return F.hflip(image) if flip else image


def every_view(data: ImageDataset, images: list[int]) -> tuple[DeviceImages, Tensor, Tensor]:
    index = torch.tensor(images).repeat_interleave(data.num_views)
    view = torch.arange(data.num_views).repeat(len(images))
    return data.on("cpu"), index, view


@pytest.mark.parametrize(
    ("pad", "flip", "views"), [(4, True, 162), (4, False, 81), (0, True, 2), (0, False, 1), (2, True, 50)]
)
def test_all_views_are_torchvisions_exactly(pad: int, flip: bool, views: int) -> None:
    data = synthetic(train_size=20, pad=pad, flip=flip)
    assert data.num_views == views
    # The first and the last image, whose shared padding ends the buffer and its first half.
    source, index, view = every_view(data, [0, 7, 19])
    pixels = source.pixels(index, view).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3 * views, 32, 32, 3)
    for row, (i, v) in enumerate(zip(index.tolist(), view.tolist(), strict=True)):
        np.testing.assert_array_equal(pixels[row], np.asarray(torchvision_view(data, i, v)))


def test_every_image_size_keeps_its_neighbours_out() -> None:
    """Padding is shared between neighbours in the buffer: no pixel of another image may show in it."""
    data = synthetic(classes=2, train_size=3, image_size=5, pad=3)
    white = np.full_like(data.train_images, 255)
    source = DeviceImages(
        white, data.train_labels, mean=data.mean, std=data.std, pad=3, flip=True, device=torch.device("cpu")
    )
    _, index, view = every_view(data, [0, 1, 2])
    dy, dx, _ = split_view(view, pad=3, flip=True)
    visible = (5 - (dy - 3).abs()) * (5 - (dx - 3).abs())
    assert torch.equal((source.pixels(index, view) == 255).sum((1, 2, 3)), 3 * visible)


def test_normalised_images_equal_to_tensor_and_normalize() -> None:
    data = synthetic(train_size=20, mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
    source, index, view = every_view(data, [0, 19])
    images = source.images(index, view)
    assert images.dtype == torch.float32
    assert images.shape == (324, 3, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    views = [torchvision_view(data, i, v) for i, v in zip(index.tolist(), view.tolist(), strict=True)]
    expected = torch.stack([F.normalize(F.to_tensor(image), list(data.mean), list(data.std)) for image in views])
    assert (images - expected).abs().max() <= 1e-6


def test_an_image_does_not_depend_on_the_batch_around_it() -> None:
    data = synthetic(train_size=20, image_size=13)
    source, index, view = every_view(data, [3, 4])
    together = source.images(index, view)
    for row in (0, 100, 323):
        assert torch.equal(source.images(index[row : row + 1], view[row : row + 1])[0], together[row])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_may_be_normalised_in_parts_and_in_used_memory(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = synthetic(train_size=20)
    _, index, view = every_view(data, [3, 4, 5])
    expected = [data.on("cpu").images(index + k, view, dtype=dtype) for k in range(3)]
    monkeypatch.setattr(resident_module, "KEPT_BY_MALLOC", 0)
    monkeypatch.setattr(resident_module, "IN_CACHE", 7 * 3 * 32 * 32)
    source = data.on("cpu")
    for _ in range(2):
        found = [source.images(index + k, view, dtype=dtype) for k in range(3)]  # all kept at the same time
        assert all(map(torch.equal, found, expected))
        del found


def test_memory_is_used_again_once_no_tensor_refers_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident_module, "KEPT_BY_MALLOC", 0)
    memory = HostMemory()
    first = memory.empty((4, 5), torch.float32)
    place, part = first.data_ptr(), first[2:].t()
    del first
    second = memory.empty((4, 5), torch.float32)
    assert second.data_ptr() != place  # a view of the first is left
    del part
    smaller = memory.empty((3,), torch.uint8)
    assert smaller.data_ptr() == place
    saved = torch.ones(3, requires_grad=True) * smaller  # autograd keeps it
    del smaller
    assert memory.empty((3,), torch.uint8).data_ptr() != place
    del saved
    assert memory.empty((4, 5), torch.float32).data_ptr() == place


@pytest.mark.parametrize(("pad", "flip"), [(4, True), (4, False), (0, True), (0, False)])
def test_numbering_is_the_documented_formula(pad: int, flip: bool) -> None:
    view = torch.arange(num_views(pad=pad, flip=flip))
    dy, dx, mirrored = split_view(view, pad=pad, flip=flip)
    assert torch.equal((dy * (2 * pad + 1) + dx) * (1 + flip) + mirrored, view)
    assert int(dy.max()) == int(dx.max()) == 2 * pad
    assert int(mirrored.max()) == int(flip)


def test_the_centre_view_is_the_image() -> None:
    data = synthetic(train_size=20)
    dy, dx, mirrored = split_view(torch.arange(data.num_views), pad=data.pad, flip=data.flip)
    (centre,) = torch.nonzero((dy == data.pad) & (dx == data.pad) & (mirrored == 0))
    view = centre.expand(20)
    np.testing.assert_array_equal(data.on("cpu").pixels(torch.arange(20), view).numpy(), data.train_images)
