"""What `distill export` does once its command is sound, and what it prints."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.cli.grammar import UsageError
from distill.config.rebuild import Untrusted
from distill.exports.report import Exported
from distill.exports.writing import export_run
from distill.runs.store import RunRecord


def export(
    record: RunRecord,
    folder: Path,
    *,
    forms: Sequence[str],
    half: bool,
    places: Mapping[str, Any],
    asked: bool,
    own: str | None,
) -> Exported:
    """Export a finished run and say what was written; see `export_run`.

    Raises:
        UsageError: the folder or the data cannot be used, or the run names a target that is not trusted.
        StorageError: the run is damaged, or the folder cannot be written.
    """
    try:
        exported = export_run(record, folder, forms=forms, half=half, places=places, asked=asked, own=own, note=_note)
    except Untrusted as error:
        raise UsageError([str(error)]) from error
    except ValueError as error:
        raise UsageError(str(error).splitlines()) from error
    for sentence in _told(exported, record):
        print(sentence)
    return exported


def _note(sentence: str) -> None:
    if sys.stderr.isatty():  # for a person who waits; a log says what came of it
        print(f"{sentence} ...", file=sys.stderr)


def _told(exported: Exported, record: RunRecord) -> list[str]:
    if exported.folder is None:
        return []
    lines = [f"{record.path.name} is exported to {exported.folder}, checked on {exported.tried_on}"]
    if exported.reason:
        lines.append(f"synthetic images, because {exported.reason}")
    lines += [f"{model.file}  {_size(model.size)}  {model.title}; {model.check}" for model in exported.written]
    if exported.rounded is not None:
        lines.append(str(exported.rounded))
    return lines


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
