"""`distill export` twice: the new one replaces the old one, and what breaks off leaves it alone."""

from pathlib import Path
from typing import Any

import pytest

from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED
from distill.exchange import export as exporting
from distill.exchange import forms
from distill.runs.layout import EXPORT

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill export` with these words; return the exit code."""
    return command(["export", *words])


ALWAYS = {"README.md", "config.yaml", "result.json", EXPORT}


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main([f"run={run.name}", *words])


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


def test_another_export_takes_the_place_of_the_first(run: Path) -> None:
    assert export(run, "--format", "torch", "--out", "out") == FINISHED
    before = set(Path.cwd().iterdir())
    assert export(run, "--format", "safetensors", "--out", "out") == FINISHED
    assert names(Path("out")) == {"model.safetensors", *ALWAYS}
    assert set(Path.cwd().iterdir()) == before


def test_what_breaks_off_leaves_the_old_export_and_nothing_else(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(run, "--format", "safetensors", "--out", "out") == FINISHED
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    around = set(Path.cwd().iterdir())

    def interrupted(*args: Any, **facts: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "card", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(run, "--format", "safetensors", "--out", "out")
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert set(Path.cwd().iterdir()) == around


def test_a_full_disk_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forms, "write_synced", full)
    assert export(run, "--format", "safetensors", "--out", "out") == FAILED
    told = capsys.readouterr()
    assert told.err == "could not write out: no space left on device; see to that, or choose another --out DIR\n"
    assert not Path("out").exists()
