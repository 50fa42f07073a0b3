"""The folder of an export: what killed processes left goes, what living ones write stays."""

import fcntl
import os
from pathlib import Path

import pytest

from distill.exports import folder as module
from distill.exports.folder import RECORD, publish, staged


def write(folder: Path, text: str) -> None:
    """An export of run abc."""
    with staged(folder) as staging:
        (staging / RECORD).write_text('{"run_id": "abc"}')
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


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "two renames"])
def test_a_new_one_replaces_the_old_one(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(module, "_exchange", lambda one, other: False)
    for text in ("old", "new"):
        write(tmp_path / "out", text)
        assert (tmp_path / "out/README.md").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_old_one_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", "old")
    real = os.rename
    missing = []

    def watched(*paths: Path) -> None:
        real(*paths)
        missing.append(not (tmp_path / "out").is_dir())

    monkeypatch.setattr(os, "rename", watched)
    write(tmp_path / "out", "new")
    if missing:
        pytest.skip("this file system cannot exchange folders")
    assert (tmp_path / "out/README.md").read_text() == "new"


def test_a_folder_that_came_in_between_is_kept(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as staging:
        (staging / RECORD).write_text("{}")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/notes.txt").write_text("mine")
        with pytest.raises(ValueError, match=r"holds notes\.txt"):
            publish(staging, tmp_path / "out", "abc")
    assert {path.name for path in tmp_path.rglob("*")} == {"out", "notes.txt"}
