"""Errors that nobody foresaw end in one sentence, with the trace in a file; so does a command in a deleted folder."""

import os
from pathlib import Path

import pytest

import distill.cli.ls
import distill.execution.jobs
from distill.cli import main
from distill.cli.arguments import FAILED, REFUSED

Capture = pytest.CaptureFixture[str]
TINY = [
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.train_size=20",
    "student=resnet8",
    "loss=ce",
    "engine.device=cpu",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fail(*_args: object, **_options: object) -> None:
    raise ZeroDivisionError("two\nlines")


def named_file(text: str) -> Path:
    """The file at the end of the last line."""
    return Path(text.splitlines()[-1].rpartition("the trace is in ")[2])


def test_in_any_verb(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(distill.cli.ls, "run", fail)
    assert main(["ls"]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("internal error: ZeroDivisionError: two lines; the trace is in ")
    assert "in fail" in named_file(line).read_text()


def test_while_training(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(distill.execution.jobs, "execute", fail)
    Path("runs").mkdir()
    assert main(["train", *TINY]) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert named_file(line).parent == Path("runs").resolve()
    assert "in fail" in named_file(line).read_text()
    assert main(["ls"]) == 0  # the file is no run


def test_a_run_that_is_finished_is_reported_as_finished(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert main(["train", *TINY, "seed=1"]) == 0
    monkeypatch.setattr(distill.execution.jobs, "execute", fail)
    assert main(["train", "-m", *TINY, "seed=1,2", "hydra/launcher=cohort"]) == FAILED
    printed = capsys.readouterr()
    assert "1 of 2 runs finished" in printed.out
    assert "was finished before" in printed.out


def test_a_deleted_folder(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words in (["ls"], ["train"], ["losses"], ["--help"]):
        assert main(words) == REFUSED
        assert capsys.readouterr().err == "the current folder no longer exists: change to another one\n"


def test_the_first_line_of_a_run(capsys: Capture) -> None:
    assert main(["train", *TINY, "recipe.epochs=1", "recipe.batch_size=10"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "recipe demo epochs=1 batch_size=10: 1 epoch, batch size 10"


@pytest.mark.parametrize(
    "words", [["import", "9" * 400], ["table", "--config-dir", "9" * 400], ["ls", f"runs_dir={'9' * 400}"]]
)
def test_a_path_that_is_too_long_is_refused(words: list[str], capsys: Capture) -> None:
    assert main(words) == REFUSED
    assert "is too long for a path" in capsys.readouterr().err
    assert not list(Path().iterdir())
