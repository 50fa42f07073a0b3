"""`distill import` where something is wrong: every reason is said, and nothing is left behind."""

import importlib
import itertools
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli import main
from distill.cli.arguments import BUSY, FAILED, FINISHED, REFUSED
from distill.runs.lock import RunLock

Capture = pytest.CaptureFixture[str]
SMALL = ["dataset=synthetic", "dataset.train_size=40", "dataset.test_size=50", "dataset.image_size=8"]


pytestmark = pytest.mark.usefixtures("empty_folder")


def bring(*words: str) -> int:
    """The exit code of `distill import`."""
    return main(["import", *words, "engine.device=cpu"])


def only_run(where: str = "runs") -> Path:
    """The one run there is."""
    (run,) = Path(where).iterdir()
    return run


RESNET8 = "x.pth student=resnet8"
REFUSALS = {
    "": ["import needs a file: distill import FILE student=NAME dataset=NAME"],
    "''": ["the name of the file is empty (an unset variable?)"],
    "x.pth": ["import needs student=NAME", "import needs dataset=NAME"],
    "gone.pth student=resnt8 dataset=cifar1000 precison=fp32": [
        "unknown key 'precison'",
        "there is no file gone.pth",
        "student=resnt8 does not exist: did you mean",
        "dataset=cifar1000 does",
    ],
    "x.pth student=timm dataset=arrays": ["student.name has no value yet", "dataset.npz has no value yet"],
    "x.pth student=resnet8,resnet20 dataset=digits": ["names several values: choose one"],
    f"{RESNET8} dataset=digits dataset.npz=x.npz": ["dataset.npz is not a key of digits"],
    f"{RESNET8} dataset=cifar10 dataset.npz=gone.npz": ["there is no file gone.npz"],
    f"{RESNET8} dataset=cifar10 dataset.root=.": ["CIFAR10 is not in ."],
    f"{RESNET8} dataset=cifar10 dataset.npz=a dataset.root=b": ["name two places: keep one"],
    f"{RESNET8} dataset=digits student.width=2": ["student.width is not a key of"],
    f"{RESNET8} dataset=digits dataset.holdout=90": ["dataset.holdout must be 0"],
    f"{RESNET8} dataset=digits dataset.pad=-1": ["dataset.pad must be >= 0"],
    f"{RESNET8} dataset=digits teacher.seed=1": ["unknown key 'teacher.seed'"],
    f"{RESNET8} dataset=digits y.pth": ["y.pth is a second file"],
    f"{RESNET8} dataset=digits dataset.download=yes": ["dataset.download cannot be 'yes'", "is not a key"],
    f"{RESNET8} dataset=digits --config-dir gone": ["--config-dir 'gone' is not a folder"],
    f"{RESNET8} dataset=digits runs_dir=x.pth": ["runs_dir must be a folder"],
    f"{RESNET8} dataset=digits engine.device=cuda:99": ["engine.device=cuda:99 cannot be used"],
    "hostile student=resnet8 dataset=digits": ["hostile needs "],
}


@pytest.mark.parametrize("line", REFUSALS)
def test_refusals_are_collected_and_write_nothing(
    weights: dict[str, Any], tmp_path: Path, line: str, capsys: Capture
) -> None:
    words, sentences = shlex.split(line), REFUSALS[line]
    torch.save(weights, "x.pth")
    torch.save({"model": weights, "x": Touch()}, "hostile")
    before = sorted(tmp_path.rglob("*"))
    device = [] if any("device" in word for word in words) else ["engine.device=cpu"]
    assert main(["import", *words, *device]) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    for sentence in sentences:
        assert sentence in told.err
    assert len(told.err.splitlines()) == len(sentences)
    assert sorted(tmp_path.rglob("*")) == before


class Touch:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def killed(at: int, *words: str) -> None:
    """`distill import` in a process that dies, as by a kill, when it renames its file number `at` into place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that this process may have: the child needs none
        child = os.fork()
    if child == 0:
        count, replace = itertools.count(1), os.replace
        os.replace = lambda *paths: os._exit(9) if next(count) == at else replace(*paths)
        try:
            bring(*words)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])  # weights, provenance, config and its copy, result
def test_a_kill_leaves_no_half_run_and_the_command_finishes_it(
    at: int, weights: dict[str, Any], capsys: Capture
) -> None:
    torch.save({"model": weights, "accuracy": 50.0}, "x.pth")
    words = ["x.pth", "student=resnet8", "dataset=cifar10"]
    killed(at, *words)
    assert not (only_run() / "result.json").exists()
    assert (only_run() / "student.safetensors").exists() == (at > 1)
    assert main(["ls"]) == FINISHED
    assert "\tfinished\t" not in capsys.readouterr().out
    assert bring(*words) == FINISHED
    assert (only_run() / "result.json").exists()
    assert not list(only_run().glob(".*.tmp"))


def test_a_run_that_is_held_is_left_alone(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save({"model": weights, "accuracy": 50.0}, "x.pth")
    words = ["x.pth", "student=resnet8", "dataset=cifar10"]
    assert bring(*words) == FINISHED
    (only_run() / "result.json").unlink()
    with RunLock(only_run()) as lock:
        assert lock.acquire()
        assert bring(*words) == BUSY
    assert "is held by process" in capsys.readouterr().err
    assert bring(*words) == FINISHED
    (only_run() / "student.safetensors").write_bytes(b"x")
    assert bring(*words) == FAILED
    assert "is not the file its run recorded" in capsys.readouterr().err


def test_what_fails_while_measuring_leaves_nothing(weights: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(weights, "x.pth")
    module = importlib.import_module("distill.exchange.weights")

    def fail(*args: object, **kwargs: object) -> None:
        assert Path("deep/runs").is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_accuracy", fail)
    assert bring("x.pth", "student=resnet8", *SMALL, "runs_dir=deep/runs") == FAILED
    assert not Path("deep").exists()
