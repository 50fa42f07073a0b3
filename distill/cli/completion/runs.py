"""Candidates for completion from the runs there are."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.runs.files import StorageError
from distill.runs.store import RunRecord, scan
from distill.tables.filters import FILTERS, NAMES
from distill.tables.leaves import leaves, word
from distill.tables.ordering import natural
from distill.tables.words import option


def ids(runs_dir: Path) -> list[str]:
    """What `run=` takes: ids of finished runs, and the names of their folders."""
    finished = [record for record in _scan(runs_dir) if record.status == "finished"]
    return [record.run_id for record in finished] + [record.path.name for record in finished]


def values(runs_dir: Path, key: str) -> list[str]:
    """What runs have under a filter's key: `resnet8`, `resnet20` for `student`, `2`, `4` for `loss.temperature`."""
    return _distinct(_value(record, key) for record in _scan(runs_dir))


def keys(runs_dir: Path, typed: str) -> list[str]:
    """Keys of the runs' configurations, a level at a time: `recipe.` first, then what is below it."""
    paths = {path for record in _scan(runs_dir) for path in leaves(record.config) if path not in FILTERS}
    depth = typed.count(".") + 1
    found = {".".join(path.split(".")[:depth]) + ("." if path.count(".") >= depth else "=") for path in paths}
    hidden = not typed.rpartition(".")[2].startswith("_")
    return sorted(key for key in found if "." in key and not (hidden and "._" in key))


def _value(record: RunRecord, key: str) -> Any:
    if key in NAMES:
        return option(str(record.names.get(key, "")))
    if key in FILTERS:
        return record.identity.get(key, "")
    return leaves(record.config).get(key, "")


def _distinct(found: Iterable[Any]) -> list[str]:
    words = {word(value) for value in found}
    # the others would have to be quoted
    return sorted((text for text in words if re.fullmatch(r"[\w./:+@%-]+", text)), key=natural)


def _scan(runs_dir: Path) -> list[RunRecord]:
    try:
        return scan(runs_dir)
    except StorageError:
        return []
