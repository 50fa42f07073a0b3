"""The folder of an export: written beside the old one, which it replaces; leftovers of killed processes go."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main
from distill.cli.arguments import FAILED, FINISHED
from distill.exchange import export as exporting
from distill.exchange import forms
from distill.exchange.folder import publish, staged
from distill.runs.files import StorageError
from distill.runs.layout import EXPORT

Capture = pytest.CaptureFixture[str]
ALWAYS = {"README.md", "config.yaml", "result.json", EXPORT}


def write(folder: Path, text: str) -> None:
    """An export of run abc."""
    with staged(folder) as staging:
        (staging / EXPORT).write_text('{"run_id": "abc"}')
        (staging / "README.md").write_text(text)
        publish(staging, folder, "abc")


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    dead, living, other = (tmp_path / name for name in (".out.dead.tmp", ".out.living.tmp", ".outer.dead.tmp"))
    for path in (dead, living, other):
        path.mkdir()
        (path / "half").write_text("x")
    descriptor = os.open(living, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        write(tmp_path / "out", "new")
    finally:
        os.close(descriptor)
    assert {path.name for path in tmp_path.iterdir()} == {"out", living.name, other.name}


def test_a_folder_at_work_is_locked(tmp_path: Path) -> None:
    with staged(tmp_path / "out"), staged(tmp_path / "out"):
        assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.iterdir())


def test_a_new_one_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write(tmp_path / "out", text)
        assert (tmp_path / "out/README.md").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_reader_finds_one_whole_export_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", "old")
    real, seen = os.rename, []

    def watched(*paths: Path) -> None:
        real(*paths)
        seen.append({path.name: path.read_text() for path in (tmp_path / "out").glob("*")})

    monkeypatch.setattr(os, "rename", watched)
    write(tmp_path / "out", "new")
    assert seen == [{}, {EXPORT: '{"run_id": "abc"}', "README.md": "new"}]


def test_a_failed_replacement_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", "old")
    real, count = os.rename, iter(range(9))

    def fails(*paths: Path) -> None:
        if next(count) == 1:
            raise OSError(5, "Input/output error")
        real(*paths)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(StorageError, match=r"could not write .*out: input/output error"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out/README.md").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_came_in_between_is_kept(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as staging:
        (staging / EXPORT).write_text("{}")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").write_text("mine")
        with pytest.raises(ValueError, match=r"holds notes\.txt"):
            publish(staging, tmp_path / "out", "abc")
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "notes.txt"}


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main(["export", f"run={run.name}", *words])


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
    assert export(run, "--format", "safetensors", "--out", "out") == FAILED
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
