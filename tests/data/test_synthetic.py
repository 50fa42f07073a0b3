"""Generated images: a pattern that can be learnt, from a seed."""

from __future__ import annotations

import numpy as np
import pytest

from distill.data import synthetic


def test_a_seed_fixes_the_data() -> None:
    first, second, other = synthetic(seed=4), synthetic(seed=4), synthetic(seed=5)
    assert first.digest == second.digest
    assert first.digest["train"] != other.digest["train"]
    assert first.digest["test"] != other.digest["test"]


def test_sizes_and_balance() -> None:
    data = synthetic(classes=4, train_size=40, test_size=20, image_size=16)
    assert data.train_images.shape == (40, 16, 16, 3)
    assert data.evaluation_images.shape == (20, 16, 16, 3)
    assert np.bincount(data.train_labels).tolist() == [10] * 4
    assert np.bincount(data.evaluation_labels).tolist() == [5] * 4
    assert (data.num_classes, data.image_size, data.num_views) == (4, 16, 162)


def test_classes_can_be_told_apart() -> None:
    data = synthetic(image_size=8)
    images = data.train_images.reshape(200, -1).astype(float)
    means = np.stack([images[data.train_labels == label].mean(0) for label in range(10)])
    test = data.evaluation_images.reshape(100, -1)
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == data.evaluation_labels).mean() > 0.95
    assert images.std(0).mean() > 20  # and no image is like another of its class
    assert len(np.unique(images, axis=0)) == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 1}, "dataset.classes must be at least 2, got 1"),
        ({"train_size": 9}, "dataset.train_size must be at least 10, got 9"),
        ({"test_size": 0}, "dataset.test_size must be at least 1, got 0"),
        ({"image_size": 3}, "dataset.image_size must be at least 4, got 3"),
    ],
)
def test_sizes_out_of_range(options: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        synthetic(**options)
