"""Atomic files, JSON and JSON lines, and storage errors as sentences that say what to do."""

import contextlib
import errno
import json
import math
import os
import stat
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.runs.escapes import escaped


def keep_trace(folder: Path) -> Path:
    """Write the trace of the exception being handled to a new file in `folder`, or where temporary files belong."""
    text = traceback.format_exc()
    for where in (folder, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            handle, path = tempfile.mkstemp(prefix="distill-error-", suffix=".txt", dir=where)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            return Path(path)
    sys.stderr.write(text)
    return Path("the lines above")


class StorageError(RuntimeError):
    """A file of a run cannot be written or read; the message is one sentence with the remedy."""

    def __init__(self, sentence: str) -> None:
        super().__init__(escaped(sentence))  # names of files may hold anything


_AGAIN = "type the command again: the run resumes from its last checkpoint"
_ELSEWHERE = "choose a folder you can write to with runs_dir=DIR and type the command again"
_CAUSES = {
    errno.ENOSPC: ("no space left on device", f"free some space and {_AGAIN}"),
    errno.EDQUOT: ("disk quota exceeded", f"free some space and {_AGAIN}"),
    errno.EFBIG: (
        "the file is larger than the limit set for it",
        f"raise the limit (ulimit -f) and {_AGAIN}",
    ),
    errno.EROFS: ("read-only file system", _ELSEWHERE),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("permission denied", _ELSEWHERE),
    errno.ENOTDIR: ("part of its path is a file, not a folder", _ELSEWHERE),
    errno.EEXIST: ("part of its path is a file, not a folder", _ELSEWHERE),
}


_LINK = "it is a link, and no link in a store is followed", "put the file itself there, or remove the link"
LARGEST_RECORD = 64 * 2**20  # bytes; records are kilobytes


def explain(path: Path, error: OSError, *, action: str = "write") -> str:
    """One sentence: what could not be written (or read), why, and what to do about it."""
    unknown = ((error.strerror or str(error)).lower(), f"see to that and {_AGAIN}")
    cause, remedy = _CAUSES.get(error.errno or 0, unknown)
    if error.errno == errno.ELOOP:
        cause, remedy = _LINK
    elif action == "read":
        remedy = "see that the file is there and can be read"
    return f"could not {action} {path}: {cause}; {remedy}"


@contextlib.contextmanager
def storage_errors(path: Path, *, action: str = "write") -> Iterator[None]:
    """Turns an OSError of the block into a StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(explain(path, error, action=action)) from error


def temporary_path(path: Path) -> Path:
    """A fresh hidden name in the folder of `path`, on the same file system, so that a rename into place is atomic."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def write_synced(path: Path, data: bytes) -> None:
    """Creates `path` (which must not exist) and returns when the bytes are on the disk. Raises OSError."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path for the block to fill; then renames it to `path` in one step.

    When the block fails, or the process dies, `path` is unchanged. Raises StorageError.
    """
    temporary = temporary_path(path)
    with storage_errors(path):
        try:
            yield temporary
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the whole file atomically and durably. Raises StorageError."""
    with replacing(path) as temporary:
        write_synced(temporary, data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically. Raises StorageError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON atomically; a number that is not finite becomes null. Raises StorageError."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def refuse_links(*paths: Path) -> None:
    """Raises OSError where one of these is a link, which could lead out of the store."""
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def read_record(path: str | Path, *, largest: int | None = LARGEST_RECORD) -> bytes:
    """The bytes of a file of a store, which anybody who can write to the store may have replaced.

    `largest` is its largest size in bytes, None for weights and checkpoints. Raises OSError where it cannot be opened,
    also because it is a link, and StorageError where it is not a regular file (a FIFO would block, a device never end)
    or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{path} is damaged: a record must be a regular file")
        if largest is not None and found.st_size > largest:
            raise StorageError(f"{path} is damaged: a record must be below 64 MB, got {found.st_size:,} bytes")
        return file.readall()


DEEPEST = 100  # levels of nesting


def parse_json(data: bytes) -> Any:
    """The value of JSON as records hold it (see `check_plain`). Raises ValueError with the reason."""
    try:
        value = _JSON.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError("it is not valid JSON") from error
    # JSON without these needs no walk through it
    if data.count(b"[") + data.count(b"{") > DEEPEST or b"\\ud" in data or b"\\uD" in data:
        check_plain(value)
    return value


def _integer(digits: str) -> int:
    if len(digits) > 18:
        check_plain(int(digits[:40]))
    return int(digits)


def _no_number(word: str) -> float:
    raise ValueError(f"JSON has no number {word}")


_JSON = json.JSONDecoder(parse_constant=_no_number, parse_int=_integer)


def check_plain(value: object, depth: int = 0) -> None:
    """Raises ValueError, with the reason, for JSON that our records never contain.

    Allowed are only mappings with string keys, lists, strings, null, booleans, floats and integers of 64 bits, nested
    at most `DEEPEST` levels deep.
    """
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise ValueError(f"a key must be a string, got {str(key)[:40]}")
        for item in value.values() if isinstance(value, dict) else value:
            check_plain(item, depth + 1)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("a text holds half of a character") from error
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("an integer has more than 64 bits")
    elif not isinstance(value, float | None):
        raise ValueError(f"it holds a {type(value).__name__}, which is no plain data")


def read_json(path: str | Path) -> dict[str, Any] | None:
    """The JSON mapping in `path`, None where there is no file. Raises StorageError when it is damaged."""
    try:
        value = parse_json(read_record(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(explain(Path(path), error, action="read")) from error
    except ValueError as error:
        raise StorageError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise StorageError(f"{path} is damaged: it must hold a mapping, got {type(value).__name__}")
    return value


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def leftovers(folder: Path) -> Iterator[Path]:
    """The temporary files in `folder`, of killed processes or of writers at work."""
    return folder.glob(".*.tmp")


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in `folder`; its lock must be held."""
    with storage_errors(folder):
        for leftover in leftovers(folder):
            leftover.unlink(missing_ok=True)


def finite(value: object) -> object:
    """`value` with every nan and inf replaced by None: JSON cannot hold them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def append_line(path: Path, record: Mapping[str, object]) -> bytes:
    """Appends `record` as one line and returns it; numbers that are not finite become null.

    When the write fails the file is as before. Raises StorageError.
    """
    line = (json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with storage_errors(path), open(os.open(path, flags, 0o666), "ab", buffering=0) as file:
        before, rest = os.fstat(file.fileno()).st_size, line
        try:
            while rest:  # a write that hits a limit is cut short first and fails only when it is repeated
                rest = rest[file.write(rest) :]
        except OSError:
            file.truncate(before)
            raise
    return line


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of `path` in order; torn or damaged lines are left out, a missing file is empty."""
    return [record for _, record in whole_lines(path)]


def keep_epochs(path: Path, last_epoch: int) -> list[int]:
    """Cuts `path` back to the lines with epoch <= `last_epoch`, byte for byte, in one atomic step.

    Torn and damaged lines go too. Returns the epochs of the lines kept. Raises StorageError.
    """
    kept = [(line, record["epoch"]) for line, record in whole_lines(path) if epoch_of(record) <= last_epoch]
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
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def whole_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The bytes and the record of every line that is neither torn nor damaged. Raises StorageError."""
    with storage_errors(path, action="read"):
        try:
            data = read_record(path)
        except FileNotFoundError:
            return
    for line in data.splitlines(keepends=True):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and isinstance(record, dict):
            yield line, record


def epoch_of(record: Mapping[str, Any]) -> float:
    """The epoch of a line, infinite where it has none."""
    epoch = record.get("epoch")
    return epoch if type(epoch) is int else float("inf")
