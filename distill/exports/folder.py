"""The folder of an export: whole or absent, replaced in one step, never somebody else's. Imports no torch."""

import contextlib
import ctypes
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from distill.runs.files import StorageError, read_json, sync_folder, temporary_path
from distill.runs.layout import CONFIG, EXPORT, RESULT

RECORD = EXPORT
CARD = "README.md"
SAFETENSORS, ONNX, TORCH = "model.safetensors", "model.onnx", "model.pt2"
_OURS = frozenset({RECORD, CARD, CONFIG, RESULT, SAFETENSORS, ONNX, TORCH})

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_place(folder: Path, run_id: str) -> None:
    """Raise ValueError, with the reason, unless `folder` is absent, empty, or an earlier export of the same run."""
    if not folder.exists():
        _check_parent(folder)
        return
    if not folder.is_dir():
        raise ValueError(f"--out must be a folder, {folder} is a file: choose another --out DIR")
    names = {entry.name for entry in folder.iterdir()}
    if not names:
        return
    if strange := sorted(names - _OURS):
        raise ValueError(f"--out {folder} holds {strange[0]}, which no export wrote: choose another --out DIR")
    try:
        made_of = (read_json(folder / RECORD) or {}).get("run_id")
    except StorageError:
        made_of = None
    if made_of is None:
        raise ValueError(f"--out {folder} is not empty and holds no export: choose another --out DIR")
    if made_of != run_id:
        raise ValueError(f"--out {folder} holds the export of run {made_of}: choose another --out DIR")


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` to write into; it is gone when the block ends, unless `publish` renamed it.

    What killed processes left there is removed first. Raises StorageError for every OSError of the block.
    """
    with _told(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        staging = temporary_path(folder)
        staging.mkdir()
        lock = _lock(staging)  # of a living process: others leave the folder alone
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def publish(staging: Path, folder: Path, run_id: str) -> None:
    """Let the finished `staging` take the place of `folder`. Raises ValueError as `check_place`, and OSError."""
    for path in staging.iterdir():
        _sync(path)
    sync_folder(staging)
    check_place(folder, run_id)
    if not folder.is_dir() or not _exchange(staging, folder):
        aside = temporary_path(folder)
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, aside)
        os.rename(staging, folder)
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(folder.parent)


def _check_parent(folder: Path) -> None:
    parent = next(each for each in folder.absolute().parents if each.exists())
    if not parent.is_dir():
        raise ValueError(f"--out {folder} cannot be made, {parent} is a file: choose another --out DIR")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder} cannot be made, {parent} may not be written to: choose another --out DIR")


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where kernel, C library and file system can (Linux)."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        lock = _lock(leftover)
        if lock is not None:
            shutil.rmtree(leftover, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock, None where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"could not write {folder}: {reason}; see to that, or choose another --out DIR") from error
