"""Every command and code block of README.md and docs/ is run on tiny data, or composed and checked."""

import glob
import importlib
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.cli import VERBS, main
from distill.cli.arguments import parse
from distill.data import Part, arrays

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# what a command or a block contains, and why it is not run
NOT_RUN = {
    "make ": "builds an environment, or measures for ten minutes; see test_makefile",
    "pip install": "needs a package index",
    "tensorboard --logdir": "serves until it is stopped",
    "scripts/prepare_imagenet.py": "needs ImageNet's archives; see scripts/test_prepare_imagenet",
    "import pandas": "pandas is no dependency",
    "\\usepackage": "LaTeX; see tables/test_rendering",
    "pets/train/cat/001.jpg": "a listing of files",
    "sweep=tau_weight": "dozens of jobs, and their report; the tutorial's are run",
    "submitit_slurm": "needs Slurm and its launcher; see processes/test_slurm",
    "top5.mean": "no column of data with few classes; see tables/test_table",
    "distill models": "builds every network; see cli/test_models",
    "my_schedules.Halve": "a part of a recipe; see config/test_own_presets",
    "sweep=optuna": "optuna is an optional extra; see execution/test_search",
    "sweep=methods": "42 runs; see config/test_shipped_presets and execution/test_methods",
    "dataset=imagenet": "ImageNet; see config/test_shipped_presets",
    "experiment=imagenet/": "ImageNet; see config/test_shipped_presets",
    "dataset=image_folder": "photographs; see execution/test_photograph_runs",
    "distill fill": "dozens of runs; see execution/test_fill",
}
LISTING = "presets that Hydra composes"  # in the README's list of folders
# what a command contains, and why it is composed and checked, but not run
COMPOSED = {
    "experiment=cifar100": "up to 240 epochs of CIFAR-100",
    "torchrun": "several processes; see processes/test_worlds",
    "sweep=temperature": "runs by the dozen; the tutorial's sweep is run",
    "sweep=controls": "runs by the dozen; the tutorial's sweep is run",
    "loss=ce,kd,zscore_kd seed=1,2,3": "nine runs; the tutorial's are run",
    "loss.alpha=0.1,0.5,0.9": "three runs; the tutorial's are run",
    "loss=mixture": "its teacher is a resnet20; see losses/test_mixture",
    "loss=kd,mine": "six runs; the tutorial's are run",
}
PLACEHOLDER = re.compile(r"\b(ID|FILE|DIR|NAME)\b")
COMMAND = re.compile(r"`((?:distill|make|pip|python|torchrun|tensorboard) [^`]+)`")
BLOCK = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
TINY = {"recipe.epochs": "1", "teacher.recipe.epochs": "1", "engine.device": "cpu"}


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, file and content of each block, in their order; a command within a sentence is a block of its own."""
    text, place = page.read_text(encoding="utf-8"), 0
    for found in BLOCK.finditer(text):
        yield from (("", "", " ".join(command.split())) for command in COMMAND.findall(text[place : found.start()]))
        language, _, file = found[1].partition(" ")
        yield language, file, found[2]
        place = found.end()
    yield from (("", "", " ".join(command.split())) for command in COMMAND.findall(text[place:]))


def commands(block: str) -> list[str]:
    """Its lines, those that end in a backslash joined with the next."""
    return [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def reason(text: str, marks: dict[str, str]) -> str | None:
    """Why it is marked, None where it is not."""
    return next((why for mark, why in marks.items() if mark in " ".join(text.split())), None)


def small(words: list[str]) -> list[str]:
    """A training command with one epoch, CIFAR-100 of this folder, and of the digits twenty."""
    words = [word for word in words if word != "dataset.download=true"]
    keys = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    words = [word for word in words if word.partition("=")[0] not in TINY]
    if "dataset.npz" in keys:
        words = ["dataset.npz=cifar100.npz" if word == "dataset.npz=mine.npz" else word for word in words]
    elif "cifar100" in f"{keys.get('dataset', '')}{keys.get('experiment', '')}":
        words.append("dataset.npz=cifar100.npz")
    elif not {"dataset", "experiment"} & keys.keys():
        words.append("dataset.limit=20")
    return [*words, *(f"{key}={value}" for key, value in TINY.items())]


def run(command: str) -> None:
    """Run one command as it stands; `distill train` on less."""
    if reason(command, NOT_RUN):
        return
    words = shlex.split(command, comments=True)
    if words[0] == "python":
        runpy.run_path(words[1])
    elif words[0] == "rm":
        found = [Path(path) for pattern in words[2:] for path in glob.glob(pattern)]
        assert found, f"{command} deletes nothing"
        for path in found:
            shutil.rmtree(path)
    else:
        words = words[words.index("distill") + 1 :]
        if PLACEHOLDER.search(command):
            check_form(words)
            return
        if words[0] == "train":
            words = small(words) + ["--cfg=job"] * (reason(command, COMPOSED) is not None)
        assert main(words) == 0, command


def check_form(words: list[str]) -> None:
    """A command with a placeholder: its verb, keys and options exist."""
    assert words[0] in VERBS
    line = parse(words[1:], importlib.import_module(f"distill.cli.{words[0]}").VERB)
    assert not [fault.text for fault in line.faults if "unknown" in fault.text], words


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny CIFAR-100 and a store with one finished run."""
    folder = tmp_path_factory.mktemp("documentation")
    labels = np.arange(100)
    images = np.random.RandomState(0).randint(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "cifar100.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        run("distill train loss=ce")
    return folder


@pytest.fixture
def names() -> dict[str, object]:
    """What the blocks of Python find: a batch."""
    logits = torch.randn(2, 8, 10)
    return {
        "student_logits": logits[0],
        "teacher_logits": logits[1],
        "cross_entropy": torch.tensor(2.0),
        "pixels": torch.zeros(2, 32, 32, 3, dtype=torch.uint8),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_says_works(
    page: Path, prepared: Path, names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path if page.stem == "tutorial" else prepared)
    monkeypatch.setattr(sys, "path", list(sys.path))  # each command adds its folder
    for language, file, block in blocks(page):
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            # a tenth of the images
            Path(file).write_text(re.sub(r"corner\((\d+)0\)", r"corner(\1)", block), encoding="utf-8")
        elif LISTING in block or (reason(block, NOT_RUN) and language):
            continue
        elif language == "python":
            (run_id, *_) = (path.name.rpartition("-")[2] for path in Path("runs").iterdir() if "-" in path.name)
            exec(compile(block.replace('"ID"', f'"{run_id}"'), page.name, "exec"), names)
        elif language in ("", "bash"):
            for command in commands(block):
                run(command)
        else:
            pytest.fail(f"a block of {language} in {page.name} has neither a file's name nor a mark")


def test_every_mark_marks_something() -> None:
    found = " ".join(" ".join(block.replace("\\\n", " ").split()) for page in PAGES for *_, block in blocks(page))
    assert [mark for mark in (NOT_RUN | COMPOSED) if mark.strip() not in found] == []


def test_a_wrong_command_fails(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    for wrong in ("distill train loss=kdd", "distill table --colums n", "distill evaluate run=ID dataset.npy=FILE"):
        with pytest.raises(AssertionError):
            run(wrong)


def test_an_augmentation_as_documented_is_that_of_an_uninterrupted_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    found = {file: block for _, file, block in blocks(ROOT / "docs" / "extending.md")}
    (tmp_path / "my_augmentation.py").write_text(found["my_augmentation.py"])
    augmented = runpy.run_path(str(tmp_path / "my_augmentation.py"))["contrast"](npz="cifar100.npz")
    plain = arrays(npz="cifar100.npz")
    options = {"batch_size": 40, "seed": 1, "device": "cpu"}
    stream, unchanged = augmented.stream(**options), plain.stream(**options)
    whole, same = list(stream.epoch(2)), list(unchanged.epoch(2))
    factors = [batch.images / other.images for batch, other in zip(whole, same, strict=True)]
    for factor in factors:
        assert ((factor - factor[:, :1, :1, :1]).abs() < 1e-4).all()  # one factor for an image
    drawn = torch.cat([factor[:, 0, 0, 0] for factor in factors])
    assert len(drawn) == len(drawn.unique()) == 100
    assert 0.6 <= drawn.min() < 0.7 < 1.3 < drawn.max() <= 1.4
    for batch, later in zip(whole[1:], stream.epoch(2, start=1), strict=True):
        assert torch.equal(batch.images, later.images)
    halves = [augmented.stream(**options, part=Part(rank, 2)).epoch(2) for rank in (0, 1)]
    assert torch.equal(torch.cat([next(half).images for half in halves]), whole[0].images)
    assert not torch.equal(next(stream.epoch(3)).images, whole[0].images)
    assert augmented.identity() == {**plain.identity(), "contrast": 0.4}
    assert stream.key != unchanged.key
