"""JSON lines (`metrics.jsonl`, `timing.jsonl`): appended one by one, cut back on resume."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.runs.files import finite, storage_errors, write_bytes


def append_line(path: Path, record: Mapping[str, object]) -> None:
    """Appends `record` as one line; a torn last line (of a killed writer, a full disk) is dropped first.

    Numbers that are not finite become null. When the write fails the file is as before. Raises StorageError.
    """
    line = (json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            whole = _drop_torn_line(descriptor)
            os.lseek(descriptor, whole, os.SEEK_SET)
            try:
                _write_all(descriptor, line)
            except OSError:
                os.ftruncate(descriptor, whole)
                raise
        finally:
            os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of `path` in order; torn or damaged lines are left out, a missing file is empty."""
    return [record for _, record in _whole_lines(path)]


def keep_epochs(path: Path, last_epoch: int) -> list[int]:
    """Cuts `path` back to the lines with epoch <= `last_epoch`, byte for byte, in one atomic step.

    Torn and damaged lines go too. Returns the epochs of the lines kept. Raises StorageError.
    """
    kept = [(line, record["epoch"]) for line, record in _whole_lines(path) if _epoch(record) <= last_epoch]
    data = b"".join(line for line, _ in kept)
    with storage_errors(path, action="read"):
        changed = path.exists() and path.stat().st_size != len(data)
    if changed:
        write_bytes(path, data)
    return [epoch for _, epoch in kept]


def sync(path: Path) -> None:
    """Returns when the lines of `path` are on the disk; a missing file is fine. Raises StorageError."""
    with storage_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with storage_errors(path, action="read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
    for line in data.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if line.endswith(b"\n") and isinstance(record, dict):
            yield line, record


def _epoch(record: Mapping[str, Any]) -> float:
    epoch = record.get("epoch")
    return epoch if type(epoch) is int else float("inf")


def _drop_torn_line(descriptor: int) -> int:
    """Truncates after the last newline; returns the length that is left."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole


def _write_all(descriptor: int, data: bytes) -> None:
    # a write that hits a limit is cut short first and fails only when it is repeated
    while data:
        data = data[os.write(descriptor, data) :]
