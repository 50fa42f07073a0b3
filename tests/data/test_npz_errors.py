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
            r"x_train in .* got \(200, 3072\): .* store x.reshape\(-1, 3, 32, 32\).transpose\(0, 2, 3, 1\)",
        ),
        (
            {"x_train": np.zeros((200, 3, 32, 32), np.uint8)},
            r"channels first: store x.transpose\(0, 2, 3, 1\)",
        ),
        ({"x_train": np.zeros((200, 4, 32, 32), np.uint8)}, r"store x\[:, :3\].transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.zeros((200, 32, 32, 4), np.uint8)}, r"look like RGBA, .*: store x\[..., :3\]"),
        ({"x_train": np.full((200, 32, 32, 3), 0.5)}, r"store \(255 \* x\).round\(\).astype\(numpy.uint8\)"),
        ({"x_train": np.zeros((200, 32, 32, 2), np.uint8)}, "must be square images"),
        ({"x_train": np.zeros((200, 32, 30, 3), np.uint8)}, "must be square images"),
        ({"x_train": np.zeros((200, 32, 30), np.uint8)}, "must be square images"),
        ({"x_train": np.zeros((0, 32, 32, 3), np.uint8)}, "must be square images"),
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
    with pytest.raises(ValueError, match=r"y_train in .* no image has the label 0: .*numpy.unique\(y_train\)"):
        arrays(npz=write_npz(small_arrays, y_train=small_arrays["y_train"].astype(int) + 1))
    huge = small_arrays["y_train"].astype(int)
    huge[0] = 10**9  # no array of a billion classes is made
    with pytest.raises(ValueError, match=r"has the label 1000000000 but only \d+ images: number the classes without"):
        arrays(npz=write_npz(small_arrays, y_train=huge))


def test_a_class_name_without_images(small_arrays: Npz, write_npz: Writer) -> None:
    names = np.array([f"kind {number}" for number in range(101)])
    with pytest.raises(
        ValueError, match=r"no image in y_train of .* has the label 100, 'kind 100' in class_names: take"
    ):
        arrays(npz=write_npz(small_arrays, class_names=names))


@pytest.mark.parametrize("shape", [(-1, 32, 32), (-1, 32, 32, 1), (-1, 1, 32, 32)])
def test_grey_images_have_three_equal_channels(small_arrays: Npz, write_npz: Writer, shape: tuple[int, ...]) -> None:
    grey = {key: small_arrays[key][..., 0] for key in ("x_train", "x_test")}
    colour = arrays(npz=write_npz(small_arrays, **{key: np.stack([x] * 3, axis=3) for key, x in grey.items()}))
    found = arrays(npz=write_npz(small_arrays, **{key: x.reshape(shape) for key, x in grey.items()}))
    assert found.digest == colour.digest


def test_padding_beyond_the_image(small_arrays: Npz, write_npz: Writer) -> None:
    with pytest.raises(ValueError, match=r"dataset.pad must be at most the image size \(32\), got 100000"):
        arrays(npz=write_npz(small_arrays), pad=100_000)


def test_a_pickle_in_the_file_is_not_loaded(small_arrays: Npz, write_npz: Writer, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (Path.touch, (tmp_path / "executed",))

    npz = write_npz(small_arrays, x_train=np.array([Hostile()], dtype=object))
    with pytest.raises(ValueError, match=r"x_train in .* is an array of Python objects: store numpy.stack\(images\)"):
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
