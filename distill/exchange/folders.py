"""Import of a folder of runs: every run is checked by itself, and none is overwritten."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from distill.config.faults import Refused
from distill.exchange.restore import finished_at, locked, target_of
from distill.runs import files, layout
from distill.runs.config_file import read_config, write_config
from distill.runs.files import StorageError
from distill.runs.layout import CONFIG, EXPORT, METRICS, PROVENANCE, RESULT, STUDENT, STUDENT_EMA, TIMING
from distill.runs.lock import Busy
from distill.runs.records import SEAL, read_metrics, sealed
from distill.runs.store import RunRecord, changed_identity, damage, read_run, weightless

_WEIGHTS = {STUDENT: "weights_sha256", STUDENT_EMA: "ema_sha256"}  # and their digests in a result
IMPORTED, COMPLETED, THERE = "imported", "given their weights", "there already"
LEFT_OUT = "not finished"
DAMAGED, DIFFERENT, UNWRITTEN, HELD = (
    "damaged",
    "different from the run here",
    "not writable",
    "in use by another process",
)
FAILURES = (DAMAGED, DIFFERENT, UNWRITTEN)


def import_folder(
    folder: Path, runs_dir: Path, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> Counter[str]:
    """Import every finished run in `folder`; returns the number of runs by outcome.

    Raises Refused if the folder holds no run.
    """
    found = list(runs_below(folder))
    if not found:
        raise Refused([f"{folder} holds no runs: a run's folder holds {CONFIG}"])
    outcomes: Counter[str] = Counter()
    for path in found:
        outcome, sentence = _import(path, runs_dir)
        (warn if outcome in (*FAILURES, HELD) else say)(sentence)
        outcomes[outcome] += 1
    order = (IMPORTED, COMPLETED, THERE, *FAILURES, HELD, LEFT_OUT)
    counts = [f"{outcomes[outcome]} {outcome}" for outcome in order if outcomes[outcome]]
    say(f"{len(found)} runs in {folder}: {', '.join(counts)}")
    return outcomes


def runs_below(folder: Path) -> Iterator[Path]:
    """The folders of runs in `folder`, itself included, by name; hidden folders and links are skipped."""
    if any((folder / name).is_file() for name in (CONFIG, RESULT, layout.FAILED)):
        yield folder
        return
    with files.storage_errors(folder, action="read"):
        inner = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    for path in map(Path, inner):
        if not path.name.startswith("."):
            yield from runs_below(path)


def _import(path: Path, runs_dir: Path) -> tuple[str, str]:
    """The outcome for one run, and the line about it."""
    record = read_run(path)
    if record is None:
        return DAMAGED, f"{path} has vanished"
    if record.status in ("failed", "unfinished", "running"):
        return LEFT_OUT, f"left out: {path} is {record.status}"
    try:
        contents = _checked(record)
        config, target = read_config(path), target_of(record, runs_dir)
    except (Refused, StorageError) as error:
        return DAMAGED, str(error)
    try:
        there = finished_at(target)
    except Busy as error:
        return HELD, str(error)
    except StorageError as error:
        return DAMAGED, str(error)
    except Refused as error:  # trained in part
        return DIFFERENT, str(error)
    if there is not None and not _same_run(record, there):
        return DIFFERENT, (
            f"{target} is finished with another result than {path}: two trainings of one configuration; "
            "import it into another runs_dir"
        )
    absent = [name for name in _WEIGHTS if name in contents and not (target / name).is_file()]
    if there is not None and not absent:
        return THERE, f"{target} is there already"
    try:
        with locked(target):
            if there is not None:
                for name in absent:
                    files.write_bytes(target / name, contents[name])
            else:
                result = contents.pop(RESULT)  # written last, so that a killed import is repeated
                for name, data in contents.items():
                    files.write_bytes(target / name, data)
                known = {CONFIG: write_config(target, config)}
                if SEAL in (record.result or {}):  # whose digest is of the file as it was written here
                    known |= {METRICS: contents[METRICS]} if METRICS in contents else {}
                    files.write_json(target / RESULT, sealed(record.result or {}, known))
                else:
                    files.write_bytes(target / RESULT, result)
    except Busy as error:
        return HELD, str(error)
    except StorageError as error:
        return UNWRITTEN, str(error)
    if there is not None:
        return COMPLETED, f"{target}: its weights are here now"
    return IMPORTED, f"{target}: imported{', a record without weights' if weightless(target) else ''}"


def _checked(record: RunRecord) -> dict[str, bytes]:
    """The files of a finished run that are imported, if its id, its accuracies and its weights are as recorded.

    Raises StorageError. Nothing that the run names is built or imported.
    """
    if (record.path / EXPORT).is_file():
        raise StorageError(f"{record.path} is an export, not a run: import its weights as a file")
    if sentence := damage(record) or changed_identity(record) or _changed_result(record):
        raise StorageError(sentence)
    read_metrics(record.path, record.result)
    contents: dict[str, bytes] = {}
    for name in (*_WEIGHTS, METRICS, TIMING, PROVENANCE, RESULT):
        path = record.path / name
        if path.is_file():
            with files.storage_errors(path, action="read"):
                contents[name] = files.read_record(path, largest=None if name in _WEIGHTS else files.LARGEST_RECORD)
    for name, key in _WEIGHTS.items():
        known = (record.result or {}).get(key)
        if known and name in contents and (found := sha256(contents[name]).hexdigest()) != known:
            raise StorageError(
                f"{record.path / name} is not the file its run recorded: its sha256 is {found[:12]}..., "
                f"the record has {known[:12]}..."
            )
    return contents


def _changed_result(record: RunRecord) -> str | None:
    path, result = record.path / RESULT, record.result or {}
    if result.get("run_id", record.run_id) != record.run_id:
        return f"{path} belongs to run {result['run_id']}, not {record.run_id}"
    for found in (result["last"], result["best"]):
        accuracy, correct, count = found["accuracy"], found.get("correct"), found.get("count")
        if not 0 <= accuracy <= 100:
            return f"{path} is damaged: an accuracy lies between 0 and 100, got {accuracy}"
        counted = isinstance(correct, int) and isinstance(count, int) and count > 0
        if counted and not math.isclose(accuracy, 100 * correct / count, abs_tol=1e-6):
            return f"{path} has been changed: {correct} of {count} are not {accuracy} %"
    return None


def _same_run(one: RunRecord, other: RunRecord) -> bool:
    """Whether two finished runs of one id have the same weights and the same accuracies."""
    keys = ("weights_sha256", "last", "best", "split")
    texts = (json.dumps([(run.result or {}).get(key) for key in keys], sort_keys=True) for run in (one, other))
    return len(set(texts)) == 1
