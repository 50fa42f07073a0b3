"""The runs of a folder, read from their files, and the disk space they take; a damaged run never hides the others."""

import contextlib
import difflib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from distill.runs.config_file import read_shared_config
from distill.runs.escapes import escaped
from distill.runs.files import StorageError, read_json, refuse_links, storage_errors
from distill.runs.identity import run_id as digest_of
from distill.runs.layout import CONFIG, EXPORT, FAILED, PUBLISHED, RESULT, STUDENT, STUDENT_EMA, TABLES, up_to_store
from distill.runs.lock import RunLock, is_held
from distill.runs.records import SEAL, check_failure, check_result, lacking, seal_of

WEIGHTS = "weights"  # key of the identity of imported weights; the id of such a run is not the digest of its identity
Status = Literal["finished", "failed", "running", "unfinished", "damaged"]


@dataclass(frozen=True)
class RunRecord:
    """The content of one run directory; `message` is what is damaged in it, empty otherwise.

    `weights` is the file of the weights that `result` is about: the student's, or their average's (`averaged`).
    """

    path: Path
    run_id: str
    status: Status
    names: Mapping[str, Any]
    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    result: Mapping[str, Any] | None
    failure: Mapping[str, Any] | None
    message: str = ""
    weights: str = STUDENT


def averaged(record: RunRecord) -> RunRecord:
    """A finished run with the average of its weights in their place. Raises ValueError where it kept none."""
    assert record.result is not None
    result = record.result
    if "ema_sha256" not in result or "ema" not in result["last"]:
        raise ValueError(f"{record.path} has no averaged weights: it was trained without recipe.ema")
    last = {"epoch": result["last"]["epoch"], **result["last"]["ema"]}
    return replace(record, result={**result, "last": last, "weights_sha256": result["ema_sha256"]}, weights=STUDENT_EMA)


def scan(runs_dir: Path) -> list[RunRecord]:
    """Every run directly in `runs_dir`, by folder name; a missing folder holds none. Raises StorageError."""
    with storage_errors(runs_dir, action="read"):
        try:
            folders = sorted(entry.path for entry in os.scandir(runs_dir) if entry.is_dir())
        except FileNotFoundError:
            return []
    records = (read_run(Path(folder)) for folder in folders)
    return [record for record in records if record is not None]


def find(runs_dir: Path, text: str) -> RunRecord:
    """The run that `text` names: the path of a run, its folder's name in `runs_dir`, or the first characters of its id.

    Raises ValueError with a sentence: nothing matches (the nearest are named), or more than one run does.
    """
    for folder in (Path(text), runs_dir / text) if text else ():
        record = read_run(folder)
        if record is not None:
            return record
    if os.sep in text:
        raise ValueError(f"no run at {text}: a run's folder holds {CONFIG}; `distill ls` lists the runs")
    records = scan(runs_dir)
    matches = [record for record in records if text and record.run_id.startswith(text.lower())]
    if len(matches) == 1:
        return matches[0]
    if matches:
        listed = ", ".join(_label(record) for record in matches)
        raise ValueError(f"'{text}' matches {len(matches)} runs: {listed}; give more of the id, or a path")
    raise ValueError(_nothing_matches(runs_dir, text, records))


def read_run(path: Path) -> RunRecord | None:
    """The run in the folder `path`, None if there is none; damage becomes the status, never an exception."""
    content: dict[str, Any] = {}
    result = failure = None
    message = ""
    try:
        with storage_errors(path, action="read"):
            if not path.is_dir():
                return None
            if path.is_symlink() and any(os.path.lexists(path / name) for name in (CONFIG, RESULT, FAILED)):
                refuse_links(path)
        # as texts: a store has thousands of runs, and joining paths takes as long as reading them
        result = read_json(f"{path}/{RESULT}")
        failure = read_json(f"{path}/{FAILED}") if result is None else None
        if result is None and failure is None and not os.path.lexists(f"{path}/{CONFIG}"):
            return None
        found = read_shared_config(path, expected_sha256=seal_of(path, result).get(CONFIG))
        check_result(path, result or {})
        check_failure(path, failure or {})
        content, status = found, _status(path, result, failure)
    except StorageError as error:
        status, message, result = "damaged", str(error), None
    return RunRecord(
        path=path,
        run_id=content.get("run_id") or escaped(path.name.rpartition("-")[2]),
        status=status,
        names={key: escaped(name) for key, name in content.get("names", {}).items() if name is not None},
        config=content.get("config", {}),
        identity=content.get("identity", {}),
        result=result,
        failure=failure,
        message=message,
    )


def finished_run(runs_dir: Path, run: str, *, weights: bool = True) -> RunRecord:
    """The finished run that `run` names (see `find`), with everything that later work needs of it.

    `weights=False` also accepts a run whose weights are not here.

    Raises:
        ValueError: no run or several match, it is an export, it is not finished, or its weights are not here.
        StorageError: its files are damaged.
    """
    record = find(runs_dir, run)
    if (record.path / EXPORT).is_file():
        raise ValueError(f"{record.path} is an export, not a run: name the run {record.run_id} that it was made of")
    if sentence := damage(record):
        raise StorageError(sentence)
    if record.status != "finished":
        remedy = "add --retry to its command" if record.status == "failed" else "type its command again"
        raise ValueError(f"{record.path} is {record.status}, not finished: {remedy} to finish it")
    if SEAL in (record.result or {}) and (sentence := changed_identity(record)):
        raise StorageError(sentence)
    if weights and (sentence := weightless(record.path)):
        raise ValueError(sentence)
    return record


def changed_identity(record: RunRecord) -> str | None:
    """A sentence if the identity in a finished run's config is not the one that its id digests."""
    path, result = record.path / CONFIG, record.result or {}
    if WEIGHTS in record.identity:
        restored = result.get("restored")
        recorded = restored.get("recorded") if isinstance(restored, Mapping) else None
        known = [facts.get("weights_sha256") for facts in (result, recorded) if isinstance(facts, Mapping)]
        if record.identity[WEIGHTS] in known:
            return None
        return f"{path} has been changed: it names other weights than the result"
    try:
        same = digest_of(record.identity) == record.run_id
    except ValueError:  # values that an identity cannot hold
        same = False
    return None if same else f"{path} has been changed: its identity is not that of run {record.run_id}"


def damage(record: RunRecord) -> str | None:
    """What is wrong with the files of a run (unreadable, edited, half copied), as a sentence; None if nothing is."""
    if record.message or record.status != "finished":
        return record.message or None
    return lacking(record.path, {"config": record.config, "identity": record.identity}, record.result or {})


def weightless(path: Path) -> str | None:
    """A sentence if the weights of the finished run in `path` are missing, so that it cannot be used; else None."""
    if (path / STUDENT).is_file() or not (path / RESULT).is_file():
        return None
    return (
        f"{path} is a record without weights, as `distill export --results` writes it: bring its {STUDENT} by "
        "`distill import`, or delete the folder to train the run again"
    )


def _status(path: Path, result: object, failure: object) -> Status:
    if result is not None:
        return "finished"
    if failure is not None:
        return "failed"
    return "running" if is_held(path) else "unfinished"


def _nothing_matches(runs_dir: Path, text: str, records: list[RunRecord]) -> str:
    if not records:
        return f"no run matches '{text}': {runs_dir} holds no runs; `distill train` makes one"
    labels = {record.run_id[: len(text)]: record for record in records} if text else {}
    labels |= {record.path.name: record for record in records}
    near = difflib.get_close_matches(text, labels, n=3, cutoff=0.6)
    if not near:
        return f"no run matches '{text}' among the {len(records)} in {runs_dir}: `distill ls` lists them"
    nearest = ", ".join(dict.fromkeys(_label(labels[name]) for name in near))
    return f"no run matches '{text}': the nearest is {nearest}; `distill ls` lists them all"


def _label(record: RunRecord) -> str:
    return f"{record.run_id} ({record.path})"


def occupied(folder: Path) -> int:
    """Bytes of the files below a folder; files that vanish meanwhile are not counted."""
    total = 0
    if folder.is_symlink():
        return total
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def tables(run: Path) -> list[Path]:
    """The folders of the tables of a teacher's logits that lie with its run."""
    return _folders_in(run / TABLES, up_to_store(run / TABLES / "table")[1:])


def published_teachers(runs_dir: Path) -> list[Path]:
    """The folders of a store's teachers that are no runs."""
    return _folders_in(runs_dir / PUBLISHED, [runs_dir / PUBLISHED])


def _folders_in(folder: Path, below: Iterable[Path]) -> list[Path]:
    """The folders in a folder, none where one of `below` is a link: it could lead to folders that are not the store's.

    Raises StorageError.
    """
    with storage_errors(folder, action="read"):
        if any(path.is_symlink() for path in below) or not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def remove_table(folder: Path) -> int | None:
    """Removes a table and returns the bytes that it took; None, with nothing done, while a process is building it.

    A process that reads it keeps what it has mapped. Raises StorageError.
    """
    with RunLock(folder) as lock, storage_errors(folder):
        if not lock.acquire():
            return None
        freed = occupied(folder)
        shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # the folder may hold other tables
        folder.parent.rmdir()
    return freed


def size_of(count: int) -> str:
    """`1.69 GB`, `3.3 MB` or `14 kB`."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
