"""Commands composed and checked in this process; a refused one must leave nothing behind."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import distill.config.sweep
from distill.config.compose.presets import Presets
from distill.config.faults import Refused
from distill.config.sweep import prepare

TINY = ("dataset=synthetic", "dataset.image_size=16")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty; nothing here is called `configs`, so that presets come from the package."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture(scope="session")
def shipped() -> Presets:
    """The shipped presets, found once."""
    return Presets()


@pytest.fixture
def command(folder: Path, shipped: Presets, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`plans(*overrides)`, `plan(*overrides)` for the only one, `refused(*overrides)` for the sentences."""

    monkeypatch.setattr(distill.config.sweep, "Presets", lambda own: shipped if own is None else Presets(own))

    def plans(*overrides: str, multirun: bool = False, config_dir: Path | None = None, may_download: bool = False):
        _, sweep = prepare(overrides, multirun=multirun, config_dir=config_dir, faults=[], may_download=may_download)
        return sweep.jobs

    def plan(*overrides: str, **options):
        (only,) = plans(*overrides, **options)
        return only

    def refused(*overrides: str, **options) -> list[str]:
        before = sorted(folder.rglob("*"))
        with pytest.raises(Refused) as caught:
            plans(*overrides, **options)
        assert sorted(folder.rglob("*")) == before, "a refused command left files behind"
        sentences = caught.value.sentences
        assert all(sentence and "\n" not in sentence for sentence in sentences)
        return sentences

    return SimpleNamespace(plans=plans, plan=plan, refused=refused, tiny=TINY)


@pytest.fixture
def presets_of(tmp_path: Path) -> Callable[..., Path]:
    """A user's own folder of presets: `presets_of({"loss/mine.yaml": "..."})`."""

    def write(files: dict[str, str]) -> Path:
        root = tmp_path / "presets"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return root

    return write


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """An .npz of 32 x 32 images by number of classes, two training images a class."""
    folder = tmp_path_factory.mktemp("npz")
    files = {}
    for classes in (10, 100):
        random = np.random.RandomState(classes)
        arrays = {}
        for part, size in (("train", 2 * classes), ("test", classes)):
            arrays[f"x_{part}"] = random.randint(0, 256, (size, 32, 32, 3), dtype=np.uint8)
            arrays[f"y_{part}"] = np.arange(size) % classes
        files[classes] = folder / f"{classes}.npz"
        np.savez(files[classes], **arrays)
    return files
