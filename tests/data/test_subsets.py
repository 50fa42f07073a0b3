"""Limit and hold-out: balanced, stratified, disjoint, fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distill.data import ImageDataset, ImageStream, cifar100, synthetic
from distill.data.dataset import balanced, stratified


def as_set(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def counts(labels: np.ndarray, classes: int = 10) -> list[int]:
    return np.bincount(labels, minlength=classes).tolist()


def test_holdout_is_stratified_disjoint_and_complete() -> None:
    whole = synthetic(train_size=200, image_size=8)
    data = synthetic(train_size=200, image_size=8, holdout=50)
    assert (data.split, whole.split) == ("holdout", "test")
    assert counts(data.evaluation_labels) == [5] * 10
    assert counts(data.train_labels) == [15] * 10
    kept, out = as_set(data.train_images), as_set(data.evaluation_images)
    assert not kept & out
    assert kept | out == as_set(whole.train_images)
    assert not out & as_set(whole.evaluation_images)


def test_holdout_keeps_images_with_their_labels() -> None:
    whole = synthetic(train_size=200, image_size=8)
    data = synthetic(train_size=200, image_size=8, holdout=50)
    label = {image.tobytes(): y for image, y in zip(whole.train_images, whole.train_labels, strict=True)}
    for images, labels in (
        (data.train_images, data.train_labels),
        (data.evaluation_images, data.evaluation_labels),
    ):
        assert [label[image.tobytes()] for image in images] == labels.tolist()


def test_holdout_does_not_depend_on_the_run_and_is_no_prefix() -> None:
    first, second = (synthetic(train_size=200, image_size=8, holdout=30) for _ in range(2))
    ImageStream(first, batch_size=7, seed=3, device="cpu").draws(0)  # a run's seed is in its stream alone
    np.testing.assert_array_equal(first.evaluation_images, second.evaluation_images)
    labels = np.repeat(np.arange(4), 50)
    drawn = stratified(labels, 40, num_classes=4, seed=1)
    assert drawn.tolist() != [50 * label + k for label in range(4) for k in range(10)]
    assert drawn.tolist() == stratified(labels, 40, num_classes=4, seed=1).tolist()
    assert drawn.tolist() != stratified(labels, 40, num_classes=4, seed=2).tolist()


def test_subsets_of_a_data_set_are_pinned() -> None:
    """A change here changes what is trained on: raise the numerics version of run identities with it."""
    labels = np.arange(60) % 3
    assert stratified(labels, 6, num_classes=3, seed=5).tolist() == [21, 26, 31, 34, 42, 56]
    assert balanced(labels, 5, num_classes=3, seed=5).tolist() == [21, 31, 34, 42, 56]


def test_index_counts_positions_of_the_images_trained_on() -> None:
    data = synthetic(train_size=200, image_size=8, limit=100, holdout=20)
    assert len(data.train_labels) == 80
    index, _ = ImageStream(data, batch_size=16, seed=0, device="cpu").draws(0)
    assert sorted(index.tolist()) == list(range(80))


@pytest.mark.parametrize("missing", [("x_test", "y_test"), ("x_test",), ("y_test",)])
def test_holdout_never_reads_the_test_set(
    small_arrays: dict[str, Any], write_npz: Callable[..., str], missing: tuple[str, ...]
) -> None:
    npz = write_npz(small_arrays, **dict.fromkeys(missing))
    data = cifar100(npz=npz, holdout=100)
    assert data.digest["test"] is None
    assert len(data.evaluation_labels) == 100
    with pytest.raises(ValueError, match=f"has no array {missing[0]}"):
        cifar100(npz=npz)


def test_holdout_does_not_mind_a_test_set_of_garbage(
    small_arrays: dict[str, Any], write_npz: Callable[..., str]
) -> None:
    npz = write_npz(small_arrays, x_test=np.array([{"no": "image"}], dtype=object), y_test=np.ones((2, 2)))
    assert cifar100(npz=npz, holdout=100).split == "holdout"
    with pytest.raises(ValueError, match=r"x_test in .* is an array of Python objects"):
        cifar100(npz=npz)


def test_holdout_leaves_the_training_digest_and_changes_the_images_trained_on() -> None:
    whole, data = synthetic(image_size=8), synthetic(image_size=8, holdout=50)
    assert whole.digest["train"] == data.digest["train"]
    assert data.digest["test"] is None
    assert whole.on("cpu") is not data.on("cpu")
    assert len(data.on("cpu").labels) == 150


@pytest.mark.parametrize("holdout", [-1, 200, 500])
def test_a_holdout_out_of_range_is_refused(holdout: int) -> None:
    with pytest.raises(ValueError, match=rf"dataset.holdout must be .* \(200\), got {holdout}: set"):
        synthetic(image_size=8, holdout=holdout)


def test_a_holdout_that_empties_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dataset.holdout=195 leaves class \d+ \(\d+\) without training images"):
        synthetic(image_size=8, holdout=195)
    assert counts(synthetic(image_size=8, holdout=190).train_labels) == [1] * 10


@pytest.mark.parametrize(("limit", "expected"), [(10, [1] * 10), (100, [10] * 10), (13, [2] * 3 + [1] * 7)])
def test_limit_is_balanced_fixed_and_leaves_the_test_set_whole(limit: int, expected: list[int]) -> None:
    whole = synthetic(image_size=8)
    first, second = (synthetic(image_size=8, limit=limit) for _ in range(2))
    assert counts(first.train_labels) == expected
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert as_set(first.train_images) <= as_set(whole.train_images)
    np.testing.assert_array_equal(first.evaluation_images, whole.evaluation_images)
    assert first.digest["test"] == whole.digest["test"]
    assert first.digest["train"] != whole.digest["train"]


def test_limit_of_everything_is_everything() -> None:
    def digest(data: ImageDataset) -> dict[str, str | None]:
        return data.digest

    assert digest(synthetic(image_size=8, limit=200)) == digest(synthetic(image_size=8))


@pytest.mark.parametrize("limit", [-1, 0, 9, 201])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(
        ValueError, match=rf"dataset.limit must be between .* \(10\) and .* \(200\), got {limit}: choose"
    ):
        synthetic(image_size=8, limit=limit)


def test_unequal_classes_balanced_as_far_as_they_go_and_stratified_in_proportion() -> None:
    labels = np.array([0] * 100 + [1] * 4 + [2] * 40)
    np.random.RandomState(0).shuffle(labels)
    assert counts(labels[balanced(labels, 30, num_classes=3, seed=0)], 3) == [13, 4, 13]
    assert counts(labels[balanced(labels, 144, num_classes=3, seed=0)], 3) == [100, 4, 40]
    assert counts(labels[stratified(labels, 36, num_classes=3, seed=0)], 3) == [25, 1, 10]
