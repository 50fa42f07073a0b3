"""A store that others can write to: no link is followed out of it, and no record blocks or fills the memory."""

import json
import os
import stat
from pathlib import Path

import pytest

from distill.cli import main
from distill.runs.files import LARGEST_RECORD, StorageError, append_line, read_json, read_lines
from distill.runs.layout import LOCK, TABLES
from distill.runs.lock import RunLock, is_held
from distill.runs.store import tables


def test_a_lock_does_not_empty_the_target_of_a_link(tmp_path: Path) -> None:
    victim, run = tmp_path / "victim", tmp_path / "runs" / "run"
    victim.write_text("precious")
    run.mkdir(parents=True)
    (run / LOCK).symlink_to(victim)
    with pytest.raises(StorageError, match="it is a link"):
        RunLock(run).acquire()
    with pytest.raises(StorageError, match="it is a link"):
        is_held(run)
    assert victim.read_text() == "precious"


def test_prune_deletes_nothing_behind_a_link(tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "runs" / "resnet8-ce-s1-0123456789ab"
    (elsewhere / "photos").mkdir(parents=True)
    (elsewhere / "photos" / "a.jpg").write_text("precious")
    run.mkdir(parents=True)
    (run / TABLES).symlink_to(elsewhere)
    assert tables(run) == []
    assert main(["ls", "--prune", f"runs_dir={tmp_path / 'runs'}"]) == 0
    (run / TABLES).unlink()
    (run / TABLES).mkdir()
    (run / TABLES / "linked").symlink_to(elsewhere / "photos")
    assert tables(run) == []
    assert main(["ls", "--prune", f"runs_dir={tmp_path / 'runs'}"]) == 0
    assert (elsewhere / "photos" / "a.jpg").read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "folder", "large"])
def test_only_small_regular_files_are_read_as_records(tmp_path: Path, kind: str) -> None:
    record = tmp_path / "result.json"
    if kind == "link":
        (tmp_path / "other.json").write_text("{}")
        record.symlink_to(tmp_path / "other.json")
    elif kind == "fifo":
        os.mkfifo(record)
    elif kind == "device":
        record.symlink_to("/dev/zero")
    elif kind == "folder":
        record.mkdir()
    else:
        with open(record, "wb") as file:
            file.truncate(LARGEST_RECORD + 1)
    with pytest.raises(StorageError, match=r"result\.json"):
        read_json(record)
    with pytest.raises(StorageError, match=r"result\.json"):
        read_lines(record)


def test_metrics_are_not_appended_behind_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(StorageError, match="it is a link"):
        append_line(tmp_path / "metrics.jsonl", {"epoch": 1})
    assert victim.read_text() == "precious\n"
    append_line(tmp_path / "own.jsonl", {"epoch": 1})
    assert json.loads((tmp_path / "own.jsonl").read_text()) == {"epoch": 1}
    assert stat.S_ISREG((tmp_path / "own.jsonl").stat().st_mode)
