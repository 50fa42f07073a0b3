"""CIFAR from torchvision's archive and from an .npz, and the real CIFAR-100 where there is one."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from distill.data import ImageStream, cifar10, cifar100

Npz = dict[str, Any]
Writer = Callable[..., str]


@pytest.fixture
def archive(tmp_path: Path, small_arrays: Npz, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of an archive in torchvision's layout, whose md5 sums torchvision expects."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()

    def write(name: str, content: dict[str, Any]) -> str:
        # As NumPy wrote it in 2009, with whole numbers for a dtype's flags: NumPy 2.4.0 to 2.4.4 warn of them.
        stored = pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
        (folder / name).write_bytes(stored)
        return hashlib.md5(stored).hexdigest()

    def part(name: str) -> dict[str, Any]:
        planes = small_arrays[f"x_{name}"].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return {"data": planes, "fine_labels": small_arrays[f"y_{name}"].tolist()}

    sums = {name: write(name, part(name)) for name in ("train", "test")}
    meta = write("meta", {"fine_label_names": [f"class {i}" for i in range(100)]})
    source = torchvision.datasets.CIFAR100
    monkeypatch.setattr(source, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(source, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": meta})
    return str(tmp_path)


def test_archive_and_npz_are_one_data_set(archive: str, small_arrays: Npz, write_npz: Writer) -> None:
    ours, theirs = cifar100(npz=write_npz(small_arrays)), cifar100(root=archive)
    np.testing.assert_array_equal(theirs.train_images, small_arrays["x_train"])
    np.testing.assert_array_equal(theirs.evaluation_labels, small_arrays["y_test"])
    assert theirs.class_names[:2] == ("class 0", "class 1")
    assert ours.digest == theirs.digest
    assert theirs.train_labels.dtype == theirs.evaluation_labels.dtype == np.int64


def test_holdout_reads_no_test_image_from_the_archive(archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []
    original = torchvision.datasets.CIFAR100.__init__

    def spy(self: Any, root: str, train: bool = True, **options: Any) -> None:
        opened.append(train)
        original(self, root, train=train, **options)

    monkeypatch.setattr(torchvision.datasets.CIFAR100, "__init__", spy)
    cifar100(root=archive, holdout=100)
    assert opened == [True]
    cifar100(root=archive)
    assert opened == [True, True, False]


def test_an_altered_archive_is_refused(archive: str) -> None:
    path = Path(archive) / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"CIFAR100 is not in .* or not intact"):
        cifar100(root=archive)


@pytest.mark.parametrize(("factory", "name"), [(cifar10, "CIFAR10"), (cifar100, "CIFAR100")])
def test_data_that_are_not_there_name_the_ways_to_get_them(
    factory: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"{name} is not in .*set dataset.download=true.*dataset.npz"):
        factory(root=str(tmp_path / "nothing"))


def test_a_failed_download_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **options: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded to .* \(no route to host\): check"):
        cifar100(root=str(tmp_path), download=True)


def test_two_sources_at_once_are_refused(small_arrays: Npz, write_npz: Writer) -> None:
    with pytest.raises(ValueError, match="name two sources"):
        cifar100(npz=write_npz(small_arrays), download=True)


def test_cifar10_from_an_npz(small_arrays: Npz, write_npz: Writer) -> None:
    ten = {key: value % 10 if key[0] == "y" else value for key, value in small_arrays.items()}
    names = np.array(["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"])
    data = cifar10(npz=write_npz(ten, class_names=names))
    assert data.num_classes == 10
    assert data.class_names[3] == "cat"
    assert (data.num_views, data.image_size) == (162, 32)
    assert data.mean == (0.4914, 0.4822, 0.4465)
    with pytest.raises(ValueError, match=r"CIFAR100 has 100 classes, class_names in .* has 10"):
        cifar100(npz=write_npz(ten, class_names=names))


@pytest.mark.data
def test_the_real_cifar100(cifar100_npz: Path) -> None:
    data = cifar100(npz=str(cifar100_npz))
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.evaluation_images.shape == (10_000, 32, 32, 3)
    assert np.bincount(data.train_labels).tolist() == [500] * 100
    assert np.bincount(data.evaluation_labels).tolist() == [100] * 100
    pixels = data.train_images.reshape(-1, 3)[::7] / 255
    np.testing.assert_allclose(pixels.mean(0), data.mean, atol=1e-3)
    stream = ImageStream(data, batch_size=64, seed=0, device="cpu")
    assert stream.steps == 782
    batches = list(stream.epoch(0, start=780))
    assert [len(batch.labels) for batch in batches] == [64, 16]
    assert abs(float(batches[0].images.mean())) < 0.3


@pytest.mark.data
def test_the_real_cifar100_held_out_and_digested_quickly(cifar100_npz: Path) -> None:
    from distill.data.dataset import ordered_digest, unordered_digest

    data = cifar100(npz=str(cifar100_npz), holdout=5000)
    assert np.bincount(data.evaluation_labels).tolist() == [50] * 100
    start = time.process_time()
    ordered_digest(data.train_images, data.train_labels, num_classes=100)
    unordered_digest(data.evaluation_images, data.evaluation_labels, num_classes=100)
    assert time.process_time() - start < 2  # about 0.3 s on an idle core
    assert ImageStream(data, batch_size=64, seed=0, device="cpu").steps == 704
    assert torch.equal(data.on("cpu").labels.bincount(), torch.full((100,), 450))
