"""Finished runs as small files for a git repository: no weights, no events, no paths of this machine. No torch."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.runs import files
from distill.runs.config_file import as_yaml, read_config
from distill.runs.layout import CONFIG, METRICS, PROVENANCE, RESULT, TIMING
from distill.runs.records import SEAL, read_metrics, sealed
from distill.runs.store import RunRecord, damage

FILES = (CONFIG, METRICS, TIMING, PROVENANCE, RESULT)  # the result last: a folder that has one is complete


@dataclass(frozen=True)
class Recorded:
    """The outcome of an export of results: folders written and already there, counts and damage of the others.

    `size` is in bytes, of all files of the runs.
    """

    written: tuple[str, ...]
    same: tuple[str, ...]
    left_out: Mapping[str, int]
    damaged: tuple[str, ...]
    size: int


def with_teachers(chosen: Sequence[RunRecord], records: Sequence[RunRecord]) -> list[RunRecord]:
    """The chosen runs and the finished runs that taught them, in the order of `records`."""
    ids = {record.run_id for record in chosen}
    teachers = [(record.result or {}).get("teacher") for record in chosen]
    taught_by = {teacher.get("run_id") for teacher in teachers if isinstance(teacher, Mapping)}
    return [r for r in records if r.run_id in ids or (r.run_id in taught_by and r.status == "finished")]


def export_results(records: Sequence[RunRecord], folder: Path) -> Recorded:
    """Write the finished ones among `records` into `folder`, one folder per run; equal runs give equal bytes.

    A run that is already there is left unchanged.

    Raises:
        ValueError: the folder holds another result of one of these runs, or holds the runs themselves.
        StorageError: it cannot be written to, or a run cannot be read.
    """
    damaged, contents = [], {}
    finished = {record.run_id: record for record in records if record.status == "finished"}
    for record in [record for record in records if record.status == "damaged"] + list(finished.values()):
        if sentence := damage(record):
            damaged.append(sentence)
        else:
            contents[record.path.resolve().name] = _contents(record)
    _check(finished.values(), contents, folder)
    written = [name for name in contents if not (folder / name / RESULT).is_file()]
    for name in written:
        with files.storage_errors(folder / name):
            files.refuse_links(folder / name)
            (folder / name).mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(folder / name)
        for file, data in contents[name].items():
            files.write_bytes(folder / name / file, data)
    others = Counter[str](record.status for record in records if record.status not in ("finished", "damaged"))
    size = sum(len(data) for content in contents.values() for data in content.values())
    same = tuple(name for name in contents if name not in written)
    return Recorded(tuple(written), same, dict(others), tuple(damaged), size)


def _check(records: Iterable[RunRecord], contents: Mapping[str, Mapping[str, bytes]], folder: Path) -> None:
    """ValueError if writing would replace anything."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out must be a folder, {folder} is a file: choose another --out DIR")
    if any(folder.is_dir() and record.path.parent.resolve() == folder.resolve() for record in records):
        raise ValueError(f"--out {folder} is where the runs lie: choose another --out DIR")
    for name, content in contents.items():
        place = folder / name
        if (place / RESULT).is_file() and any(_bytes(place / file) != data for file, data in content.items()):
            raise ValueError(f"{place} holds another result of this run: delete it, or choose another --out DIR")


def _bytes(path: Path) -> bytes | None:
    try:
        return files.read_record(path)
    except (OSError, files.StorageError):
        return None


def _contents(record: RunRecord) -> dict[str, bytes]:
    """The files of a run byte for byte, but for absolute paths, which are replaced by their last part."""
    config = read_config(record.path)
    read_metrics(record.path, record.result)
    paths = {text: os.path.basename(text.rstrip(os.sep)) for text in _strings(config["config"]) if os.path.isabs(text)}
    found: dict[str, bytes] = {}
    for file in FILES:
        path = record.path / file
        with files.storage_errors(path, action="read"):
            if path.is_file():
                found[file] = files.read_record(path)
    if paths:
        found[CONFIG] = as_yaml(_shortened(config, paths))
        for file in (PROVENANCE, RESULT):
            content = files.read_json(record.path / file)
            if content is not None and content != (shortened := _shortened(content, paths)):
                found[file] = _as_json(shortened)
        if record.result and SEAL in record.result:
            result = json.loads(found[RESULT])
            found[RESULT] = _as_json(sealed(result, {each: found[each] for each in (CONFIG, METRICS) if each in found}))
    return found


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)


def _shortened(value: Any, paths: Mapping[str, str]) -> Any:
    """`value` with each of `paths` replaced, also inside of names (`cifar100 npz=/data/cifar100.npz`)."""
    if isinstance(value, str):
        for path in sorted(paths, key=len, reverse=True):
            value = value.replace(path, paths[path])
        return value
    if isinstance(value, Mapping):
        return {key: _shortened(item, paths) for key, item in value.items()}
    return [_shortened(item, paths) for item in value] if isinstance(value, list) else value
