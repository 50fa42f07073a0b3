"""A finished run, trained on a file of tiny images; every test gets a copy in a folder of its own."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import distill
import distill.cli
import distill.models
from distill.cli.arguments import FINISHED
from distill.config.build import _dataset

CLASSES = 4


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data.npz` (40 training and 50 test images of 8 x 8 pixels) and a run of resnet8 in `runs`."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.RandomState(0)
    parts: dict[str, Any] = {"class_names": np.array(["ant", "bee", "cat", "dog"])}
    for part, size in (("train", 40), ("test", 50)):
        labels = np.arange(size) % CLASSES
        noise = random.randint(0, 120, (size, 8, 8, 3))
        parts |= {f"x_{part}": (noise + 30 * labels[:, None, None, None]).astype(np.uint8), f"y_{part}": labels}
    np.savez(folder / "data.npz", **parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [
            "train",
            "dataset=arrays",
            "dataset.npz=data.npz",
            "student=resnet8",
            "loss=ce",
            "recipe=demo",
            "recipe.epochs=2",
        ]
        assert distill.cli.main([*words, "engine.device=cpu", "runs_dir=runs"]) == FINISHED
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, with its data, in the current folder."""
    _dataset.cache_clear()  # data.npz is another file in every test
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")
    (folder,) = (tmp_path / "runs").glob("resnet8-*")
    return folder


@pytest.fixture
def images(run: Path) -> torch.Tensor:
    """The run's test images, normalised."""
    return distill.load(run).normalise(np.load("data.npz")["x_test"])


@pytest.fixture
def expected(run: Path, images: torch.Tensor) -> torch.Tensor:
    """The logits of the run's network for them."""
    with torch.no_grad():
        return distill.load(run)(images).logits


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes an empty folder the current one, with runs below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """A resnet8 for 10 classes."""
    torch.manual_seed(1)
    return distill.models.resnet8(num_classes=10).state_dict()
