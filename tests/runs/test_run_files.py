"""Atomic files, the sentences of storage trouble, and JSON lines that survive a torn end."""

import builtins
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from distill.runs import files
from distill.runs.files import StorageError


def fail_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """From now on every file that is opened for writing fails with this errno."""
    real_open, real_os_open = builtins.open, os.open

    def refuse(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wxa+"):
            raise OSError(number, os.strerror(number), str(path))
        return real_open(path, mode, *args, **kwargs)

    def os_refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real_os_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "open", os_refuse)


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_json(path, {"old": "x" * 1000})
    files.write_json(path, {"new": 1.5, "ü": [None, math.nan]})
    assert files.read_json(path) == {"new": 1.5, "ü": [None, None]}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_write_that_breaks_off_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    files.write_text(path, "old")

    def break_off(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", break_off)
    with pytest.raises(StorageError):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_an_interrupt_keeps_the_old_file_and_stays_an_interrupt(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    files.write_text(path, "old")

    def interrupted() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["result.json"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (
            errno.ENOSPC,
            "no space left on device; free some space and type the command again: the run resumes from",
        ),
        (errno.EDQUOT, "disk quota exceeded; free some space"),
        (errno.EFBIG, "larger than the limit"),
        (errno.EROFS, "read-only file system; choose a folder you can write to with runs_dir=DIR"),
        (errno.EACCES, "permission denied; choose a folder"),
        (errno.EIO, "input/output error; see to that and type the command again"),
    ],
)
def test_trouble_is_one_sentence_with_the_file_the_cause_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    fail_with(monkeypatch, number)
    for write in (files.write_bytes, lambda path, data: files.append_line(path, {"epoch": 1})):
        with pytest.raises(StorageError, match=words) as caught:
            write(tmp_path / "some.file", b"data")
        assert str(caught.value).startswith(f"could not write {tmp_path / 'some.file'}: ")
        assert "\n" not in str(caught.value)


def test_a_folder_below_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="part of its path is a file, not a folder"):
        files.write_text(tmp_path / "runs" / "result.json", "x")


def test_json_that_is_damaged_is_a_sentence_and_missing_json_is_none(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none.json") is None
    for content in (b'{"a": 1', b"\xff\xfe", b"[1]", b"[" * 100_000):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(StorageError, match=r"bad\.json is damaged"):
            files.read_json(tmp_path / "bad.json")


def test_leftovers_of_killed_writers_go_and_nothing_else(tmp_path: Path) -> None:
    files.temporary_path(tmp_path / "last.safetensors").write_text("half")
    (tmp_path / "metrics.jsonl").write_text("{}")
    (tmp_path / "notes.tmp").write_text("the user's")
    files.remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "notes.tmp"]


def test_lines_are_appended_in_order_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert files.read_lines(path) == []
    for epoch in (1, 2):
        files.append_line(path, {"epoch": epoch, "loss": 1 / 3, "bad": math.inf})
    assert files.read_lines(path) == [{"epoch": epoch, "loss": 1 / 3, "bad": None} for epoch in (1, 2)]
    assert path.read_text().count("\n") == 2


@pytest.mark.parametrize("torn", [b'{"epoch": 2, "lo', b'{"epoch": 2}', b"\x00\x00\x00"])
def test_a_torn_last_line_is_not_read(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + torn)
    assert files.read_lines(path) == [{"epoch": 1}]


def test_keep_epochs_keeps_the_bytes_of_what_it_keeps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    # spacing and digits that a parse and a dump would change
    kept = b'{"epoch":1,  "loss": 1.50}\n{ "epoch": 2, "name": "\xc3\xbc"}\n'
    path.write_bytes(kept + b'{"epoch": 3}\n{"epoch": true}\n{"loss": 1}\nrubbish\n{"epoch": 4, "lo')
    assert files.keep_epochs(path, 2) == [1, 2]
    assert path.read_bytes() == kept
    before = path.stat()
    assert files.keep_epochs(path, 7) == [1, 2]
    assert path.stat().st_ino == before.st_ino  # nothing to cut: not rewritten
    assert files.keep_epochs(path, 0) == []
    assert path.read_bytes() == b""
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_keep_epochs_of_a_missing_file_makes_none(tmp_path: Path) -> None:
    assert files.keep_epochs(tmp_path / "metrics.jsonl", 3) == []
    assert os.listdir(tmp_path) == []


def test_keep_epochs_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    for epoch in (1, 2, 3):
        files.append_line(path, {"epoch": epoch})
    before = path.read_bytes()
    fail_with(monkeypatch, errno.EROFS)
    with pytest.raises(StorageError, match="read-only"):
        files.keep_epochs(path, 1)
    assert path.read_bytes() == before


def test_lines_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"epoch": 1, "train": {"loss": math.nan, "terms": (1, 2)}})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "epoch": 1,
        "train": {"loss": None, "terms": [1, 2]},
    }
