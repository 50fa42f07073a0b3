"""The digits: real, resized exactly, split in fixed stratified halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill.data import ImageDataset, digits
from distill.data.builtin_images import enlarge
from distill.data.resident import channel_statistics


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    return digits()


def test_half_of_each_digit_is_for_testing(data: ImageDataset) -> None:
    assert data.train_images.shape == (899, 32, 32, 3)
    assert data.evaluation_images.shape == (898, 32, 32, 3)
    train, test = np.bincount(data.train_labels), np.bincount(data.evaluation_labels)
    assert np.abs(train - test).max() <= 1
    together = np.concatenate([data.train_labels, data.evaluation_labels])
    assert np.bincount(together).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_never_flipped_and_have_81_views(data: ImageDataset) -> None:
    assert (data.num_views, data.flip, data.pad) == (81, False, 4)
    assert data.class_names == tuple("0123456789")


def test_the_stated_mean_and_deviation_are_those_of_the_training_half(data: ImageDataset) -> None:
    assert channel_statistics(data.train_images) == (data.mean, data.std)


def test_resizing_is_bilinear(data: ImageDataset) -> None:
    source = np.random.RandomState(0).randint(0, 17, (20, 8, 8))
    ours = enlarge(source)
    scaled = torch.tensor(source, dtype=torch.float64)[:, None] * 255 / 16
    theirs = torch.nn.functional.interpolate(scaled, size=32, mode="bilinear", align_corners=False)
    assert ours.shape == (20, 32, 32, 3)
    for channel in range(3):
        assert np.abs(ours[..., channel] - theirs[:, 0].numpy()).max() <= 0.5 + 1e-9
    assert enlarge(np.full((1, 8, 8), 16)).min() == 255
    assert enlarge(np.zeros((1, 8, 8), dtype=np.int64)).max() == 0


def test_the_digest_is_pinned(data: ImageDataset) -> None:
    """Integer arithmetic gives every platform the same pixels; run ids of the demo depend on it."""
    assert data.digest == {
        "train": "9f011da27b309e5b45a981e1cf6ee71db82ed4c6214ccf6c68458b08227317fe",
        "test": "a245a5fb42190866af86c89171651639f1cbef525fe83356e05a88d1b043ffea",
    }


def test_they_are_scikit_learns_wherever_its_file_lies(data: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.builtin_images.find_spec", lambda name: None)
    assert digits().digest == data.digest


def test_limit_and_holdout(data: ImageDataset) -> None:
    small = digits(limit=100, holdout=20)
    assert (len(small.train_labels), len(small.evaluation_labels), small.split) == (80, 20, "holdout")
    assert small.mean == data.mean
