"""The folder of a report: nobody else's, its page written last. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path

from distill.runs.files import StorageError, read_json, storage_errors, write_text

RECORD = "report.json"
PAGE = "index.html"


def check_place(folder: Path, subject: str) -> None:
    """Raise ValueError, with the reason, unless `folder` is absent, empty, or holds a report of `subject`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"--out must be a folder, {folder} is a file: choose another --out DIR")
    if not any(folder.iterdir()):
        return
    try:
        about = (read_json(folder / RECORD) or {}).get("subject")
    except StorageError:
        about = None
    if about is None:
        raise ValueError(f"--out {folder} is not empty and holds no report: choose another --out DIR")
    if about != subject:
        raise ValueError(f"--out {folder} holds the report of {about}: choose another --out DIR")


def write_files(folder: Path, files: Mapping[str, str], *, record: Mapping[str, object]) -> None:
    """Write `files` by their names below `folder` and the record that lists them; files of an older report go.

    The page comes last, so whoever sees it sees its figures. Raises StorageError.
    """
    try:
        old = (read_json(folder / RECORD) or {}).get("files")
    except StorageError:
        old = None
    known = old if isinstance(old, list) else []
    with storage_errors(folder):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECORD, json.dumps({**record, "files": sorted(files)}, indent=2, ensure_ascii=False) + "\n")
    for name in sorted(files, key=lambda each: each == PAGE):
        write_text(folder / name, files[name])
    with storage_errors(folder):
        for name in set(map(str, known)) - set(files):
            path = folder / name
            if path.parent in (folder, folder / "figures"):  # a record may have been edited
                path.unlink(missing_ok=True)
