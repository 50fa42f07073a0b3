"""Equal data, equal digest: whatever the file, the names and the order of the test set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distill.data import arrays, cifar100

Npz = dict[str, Any]
Writer = Callable[..., str]


def digest(npz: str) -> dict[str, str | None]:
    return cifar100(npz=npz).digest


def test_a_digest_is_two_sha256(small_arrays: Npz, write_npz: Writer) -> None:
    found = digest(write_npz(small_arrays))
    assert list(found) == ["train", "test"]
    assert all(value is not None and len(bytes.fromhex(value)) == 32 for value in found.values())


def test_what_changes_no_number_changes_no_digest(small_arrays: Npz, write_npz: Writer) -> None:
    expected = digest(write_npz(small_arrays))
    order = np.random.RandomState(0).permutation(40)
    shuffled = {key: small_arrays[key][order] for key in ("x_test", "y_test")}
    assert digest(write_npz(small_arrays, **shuffled)) == expected
    assert digest(write_npz(small_arrays, class_names=np.array([f"name {i}" for i in range(100)]))) == expected
    assert digest(write_npz(small_arrays, coarse=np.arange(5))) == expected
    assert digest(write_npz(small_arrays, y_train=small_arrays["y_train"].astype(np.int32))) == expected
    assert arrays(npz=write_npz(small_arrays)).digest == expected


def test_what_changes_a_number_changes_the_digest(small_arrays: Npz, write_npz: Writer) -> None:
    expected = digest(write_npz(small_arrays))

    def pixel(key: str) -> dict[str, np.ndarray]:
        changed = small_arrays[key].copy()
        changed[3, 5, 7, 1] ^= 1
        return {key: changed}

    def swapped(*keys: str) -> dict[str, np.ndarray]:
        order = np.r_[1, 0, 2 : len(small_arrays[keys[0]])]
        return {key: small_arrays[key][order] for key in keys}

    for change in (pixel("x_train"), swapped("x_train", "y_train"), swapped("x_train"), swapped("y_train")):
        found = digest(write_npz(small_arrays, **change))
        assert found["train"] != expected["train"]
        assert found["test"] == expected["test"]
    for change in (pixel("x_test"), swapped("x_test"), swapped("y_test")):
        found = digest(write_npz(small_arrays, **change))
        assert found["train"] == expected["train"]
        assert found["test"] != expected["test"]


def test_a_repeated_test_image_counts(small_arrays: Npz, write_npz: Writer) -> None:
    twice = {key: np.concatenate([small_arrays[key], small_arrays[key][:1]]) for key in ("x_test", "y_test")}
    assert digest(write_npz(small_arrays, **twice))["test"] != digest(write_npz(small_arrays))["test"]


def test_the_number_of_classes_counts(small_arrays: Npz, write_npz: Writer) -> None:
    """It decides the shape of a network, so it belongs to the data."""
    names = np.array([f"name {i}" for i in range(101)])
    more = small_arrays | {
        "x_train": np.concatenate([small_arrays["x_train"], small_arrays["x_train"][:1]]),
        "y_train": np.append(small_arrays["y_train"], 100).astype(np.uint8),
    }
    named = arrays(npz=write_npz(more, class_names=names))
    assert named.num_classes == 101
    assert named.digest == arrays(npz=write_npz(more)).digest
    assert named.digest["test"] != digest(write_npz(small_arrays))["test"]
