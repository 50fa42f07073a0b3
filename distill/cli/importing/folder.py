"""The folder of an imported run: locked, written in an order that leaves no half run, gone where the import fails."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from distill.runs import files
from distill.runs.config_file import write_config
from distill.runs.layout import PROVENANCE, RESULT
from distill.runs.lock import Busy, RunLock


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the run's lock, so that neither training nor another import writes there.

    A block that fails leaves no folder that was not there before.

    Raises:
        Busy: another process is at work on the run.
        StorageError: the folder cannot be written to.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    with RunLock(path) as lock:
        if not lock.acquire():
            raise Busy(f"{path} is held by {lock.holder()}: wait for it, or stop it first")
        try:
            files.remove_leftovers(path)
            yield
        except BaseException:
            if path in created:
                shutil.rmtree(path, ignore_errors=True)
            for folder in created[1:]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


def write_records(
    path: Path, *, config: Mapping[str, Any], provenance: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    """Everything beside the weights, `result.json` last: what is killed before it can be typed again.

    Raises StorageError.
    """
    files.write_json(path / PROVENANCE, provenance)
    write_config(path, config)
    files.write_json(path / RESULT, result)


def now() -> str:
    """The time as run directories write it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
