"""The folder of an export: the forms of a network in it, and how it replaces an older one. Imports no torch."""

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from distill.runs.files import StorageError, read_json, sync_folder, temporary_path
from distill.runs.layout import CONFIG, EXPORT, RESULT

CARD = "README.md"
INSTALL = 'pip install "distill[export]"'


@dataclass(frozen=True)
class Form:
    """A form in which a network is exported: its file, its title, and the packages that write and read it.

    `tolerance` is the largest difference between the logits of the file and of the network it was written from, as a
    share of the largest logit (of 1 where all are smaller).
    """

    file: str
    title: str
    tolerance: float
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "safetensors": Form("model.safetensors", "state dict", 1e-6),
        "onnx": Form("model.onnx", "ONNX, any batch size", 1e-4, ("onnx", "onnxscript", "onnxruntime")),
        "torch": Form("model.pt2", "torch.export, any batch size", 1e-4),
    }
)
_FILES = frozenset({EXPORT, CARD, CONFIG, RESULT, *(form.file for form in FORMS.values())})


def check_folder(folder: Path, run_id: str) -> None:
    """Raise ValueError, with the reason, unless `folder` is absent, empty, or an earlier export of the same run."""
    if not folder.exists():
        parent = next(each for each in folder.absolute().parents if each.exists())
        if not parent.is_dir():
            raise ValueError(f"--out {folder} cannot be made, {parent} is a file: choose another --out DIR")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ValueError(f"--out {folder} cannot be made, {parent} is not writable: choose another --out DIR")
        return
    if not folder.is_dir():
        raise ValueError(f"--out must be a folder, {folder} is a file: choose another --out DIR")
    names = {entry.name for entry in folder.iterdir()}
    if strange := sorted(names - _FILES):
        raise ValueError(f"--out {folder} holds {strange[0]}, which no export wrote: choose another --out DIR")
    try:
        exported = (read_json(folder / EXPORT) or {}).get("run_id")
    except StorageError:
        exported = None
    if names and exported is None:
        raise ValueError(f"--out {folder} is not empty and holds no export: choose another --out DIR")
    if names and exported != run_id:
        raise ValueError(f"--out {folder} holds the export of run {exported}: choose another --out DIR")


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder next to `folder` to write into; it is removed when the block ends, unless `publish` renamed it.

    Staging folders of killed processes are removed first. Raises StorageError for every OSError of the block.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
            if not leftover.is_symlink() and leftover.is_dir() and (lock := _lock(leftover)) is not None:
                shutil.rmtree(leftover, ignore_errors=True)
                os.close(lock)
        staging = temporary_path(folder)
        staging.mkdir()
        lock = _lock(staging)  # so that other processes leave this folder alone
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if lock is not None:
                os.close(lock)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"could not write {folder}: {reason}; see to that, or choose another --out DIR") from error


def publish(staging: Path, folder: Path, run_id: str) -> None:
    """Replace `folder` by the finished `staging`: a reader finds the old export, none for a moment, or the new one.

    A process killed in that moment leaves no export: run the command again. Raises ValueError as `check_folder` does,
    and OSError; the old export is then in its place again.
    """
    for path in staging.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(staging)
    check_folder(folder, run_id)
    aside = temporary_path(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder, aside)
    try:
        os.rename(staging, folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.rename(aside, folder)
        raise
    if aside.is_symlink():
        aside.unlink()
    shutil.rmtree(aside, ignore_errors=True)
    sync_folder(folder.parent)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the folder's lock, None if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
