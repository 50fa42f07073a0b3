"""What is wrong with a file is said in one sentence, with the key, the rule and the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.data import arrays, cifar100

Npz = dict[str, Any]
Writer = Callable[..., str]


@pytest.mark.parametrize("factory", [arrays, cifar100])
def test_a_missing_file(factory: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none.npz: set dataset.npz to an .npz file with x_train"):
        factory(npz=str(tmp_path / "none.npz"))


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_key(small_arrays: Npz, write_npz: Writer, key: str) -> None:
    with pytest.raises(ValueError, match=f"has no array {key}, only .*_.*: an .npz data set holds x_train"):
        cifar100(npz=write_npz(small_arrays, **{key: None}))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"x_train": np.zeros((200, 32, 32, 3))}, "x_train in .* must be uint8, got float64: store"),
        ({"x_test": np.zeros((40, 32, 32, 3), np.int64)}, "x_test in .* must be uint8, got int64"),
        (
            {"x_train": np.zeros((200, 3072), np.uint8)},
            r"x_train in .* shape \(N, H, H, 3\), got \(200, 3072\)",
        ),
        ({"x_train": np.zeros((200, 32, 32, 1), np.uint8)}, "repeat a single channel three times"),
        ({"x_train": np.zeros((200, 32, 30, 3), np.uint8)}, "must be square colour images"),
        ({"x_train": np.zeros((0, 32, 32, 3), np.uint8)}, "must be square colour images"),
        ({"x_train": np.zeros((200, 28, 28, 3), np.uint8)}, "must be 32 pixels wide and high, got 28"),
        ({"x_test": np.zeros((40, 16, 16, 3), np.uint8)}, "must be 32 pixels wide and high, got 16"),
        ({"y_train": np.zeros(200)}, "y_train in .* must be whole numbers of shape"),
        ({"y_test": np.zeros((40, 1), np.uint8)}, r"y_test in .* shape \(N,\), got uint8 \(40, 1\)"),
        ({"y_train": np.zeros(199, np.uint8)}, "x_train and y_train in .* differ in length: 200 and 199"),
        ({"y_test": np.zeros(41, np.uint8)}, "x_test and y_test in .* differ in length: 40 and 41"),
        ({"y_train": np.full(200, 100, np.uint8)}, r"y_train in .* must be in 0\.\.99, got 100\.\.100"),
        ({"y_test": np.full(40, -1)}, r"y_test in .* must be in 0\.\.99, got -1\.\.-1: number"),
        ({"y_train": np.arange(200) % 99}, r"every class needs training images, class 99 \(99\) has none"),
    ],
)
def test_wrong_arrays(small_arrays: Npz, write_npz: Writer, changed: Npz, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        cifar100(npz=write_npz(small_arrays, **changed))
    assert "\n" not in str(caught.value)


def test_arrays_reports_negative_labels_and_gaps(small_arrays: Npz, write_npz: Writer) -> None:
    with pytest.raises(ValueError, match=r"y_train in .* must be at least 0, got -1\.\."):
        arrays(npz=write_npz(small_arrays, y_train=small_arrays["y_train"].astype(int) - 1))
    with pytest.raises(ValueError, match=r"class 0 \(0\) has none: number the labels from 0"):
        arrays(npz=write_npz(small_arrays, y_train=small_arrays["y_train"].astype(int) + 1))


def test_a_pickle_in_the_file_is_not_loaded(small_arrays: Npz, write_npz: Writer, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (Path.touch, (tmp_path / "executed",))

    npz = write_npz(small_arrays, x_train=np.array([Hostile()], dtype=object))
    with pytest.raises(ValueError, match=r"cannot be read as an .npz of plain arrays"):
        cifar100(npz=npz)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip file at all", b"PK\x03\x04 truncated"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"broken.npz cannot be read as an .npz of plain arrays .*numpy.savez"
    ) as caught:
        cifar100(npz=str(path))
    assert "\n" not in str(caught.value)


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "single.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(ValueError, match="it holds a single array"):
        cifar100(npz=str(path))


def test_damaged_bytes_are_noticed(small_arrays: Npz, write_npz: Writer) -> None:
    path = Path(write_npz(small_arrays))
    content = bytearray(path.read_bytes())
    content[5000] ^= 255  # inside x_train
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read as an .npz of plain arrays .*CRC"):
        cifar100(npz=str(path))
