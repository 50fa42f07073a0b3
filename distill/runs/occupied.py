"""What runs take of the disk, and what of it can be made again."""

import contextlib
import os
import shutil
from pathlib import Path

from distill.runs.files import storage_errors
from distill.runs.layout import TABLES
from distill.runs.lock import RunLock


def occupied(folder: Path) -> int:
    """Bytes of the files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def tables(run: Path) -> list[Path]:
    """The folders of the tables of a teacher's logits that lie with its run."""
    folder = run / TABLES
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def remove_table(folder: Path) -> int | None:
    """Removes a table and returns the bytes that it took; None, nothing done, while somebody builds it.

    A process that reads it keeps what it has mapped. Raises StorageError.
    """
    with RunLock(folder) as lock, storage_errors(folder):
        if not lock.acquire():
            return None
        freed = occupied(folder)
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # others may lie beside it
        folder.parent.rmdir()
    return freed


def size_of(count: int) -> str:
    """`1.69 GB`, `3.3 MB` or `14 kB`."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
