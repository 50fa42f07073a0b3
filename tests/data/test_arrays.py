"""A user's own images: statistics of their own, any size, any number of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distill.data import arrays


@pytest.fixture
def shapes() -> dict[str, Any]:
    """120 + 20 images of 12 x 12 in 3 classes; the red channel is brighter than the others."""
    random = np.random.RandomState(1)
    images = random.randint(0, 100, (140, 12, 12, 3), dtype=np.uint8)
    images[..., 0] += 100
    labels = np.arange(140) % 3
    return {"x_train": images[:120], "y_train": labels[:120], "x_test": images[120:], "y_test": labels[120:]}


def test_mean_and_deviation_are_those_of_the_images_trained_on(
    shapes: dict[str, Any], write_npz: Callable[..., str]
) -> None:
    shapes["x_test"][:] = 0  # must not count
    data = arrays(npz=write_npz(shapes))
    pixels = shapes["x_train"].reshape(-1, 3) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std(0), atol=1e-6)
    part = arrays(npz=write_npz(shapes), holdout=60)
    np.testing.assert_allclose(part.mean, (part.train_images.reshape(-1, 3) / 255).mean(0), atol=1e-6)
    assert part.mean != data.mean


def test_given_statistics_pad_and_flip_are_used(shapes: dict[str, Any], write_npz: Callable[..., str]) -> None:
    npz = write_npz(shapes)
    data = arrays(npz=npz, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), pad=1, flip=False)
    assert (data.mean, data.std, data.num_views) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 9)
    assert (data.image_size, data.num_classes, data.class_names) == (12, 3, ("0", "1", "2"))
    assert arrays(npz=npz, pad=0, flip=False).num_views == 1


def test_class_names_fix_the_number_of_classes(shapes: dict[str, Any], write_npz: Callable[..., str]) -> None:
    data = arrays(npz=write_npz(shapes, class_names=np.array(["circle", "square", "star"])))
    assert data.class_names == ("circle", "square", "star")
    with pytest.raises(ValueError, match=r"the label 3, 'moon' in class_names"):
        arrays(npz=write_npz(shapes, class_names=np.array(["circle", "square", "star", "moon"])))
    with pytest.raises(ValueError, match=r"y_train in .* must be in 0\.\.1, got 0\.\.2"):
        arrays(npz=write_npz(shapes, class_names=np.array(["circle", "square"])))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"mean": (0.5, 0.5)},
            r"dataset.mean must be three finite numbers, one per channel, got \[0.5, 0.5\]",
        ),
        ({"std": (0.5, float("nan"), 0.5)}, "dataset.std must be three finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "dataset.std must be > 0 in every channel"),
        ({"pad": -1}, "dataset.pad must be >= 0, got -1"),
    ],
)
def test_options_out_of_range(
    shapes: dict[str, Any], write_npz: Callable[..., str], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        arrays(npz=write_npz(shapes), **options)


def test_a_channel_without_variation_asks_for_a_deviation(
    shapes: dict[str, Any], write_npz: Callable[..., str]
) -> None:
    shapes["x_train"][..., 2] = 7
    with pytest.raises(ValueError, match=r"dataset.std must be > 0 in every channel.*set dataset.std"):
        arrays(npz=write_npz(shapes))
