"""The runs that a report is about, found by name, and whether they can be compared. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.runs.layout import STUDENT
from distill.runs.store import RunRecord, finished_run


def has_weights(record: RunRecord) -> bool:
    """Whether a run's weights lie with it; results alone may be kept without them."""
    return (record.path / STUDENT).is_file()


def teacher_of(record: RunRecord, runs_dir: Path) -> tuple[RunRecord | None, str]:
    """The finished run of a run's teacher, from beside it or from `runs_dir`; where there is none, why (or nothing).

    StorageError where that run's files are damaged.
    """
    assert record.result is not None
    facts = record.result.get("teacher")
    if not isinstance(facts, Mapping):
        return None, ""
    teacher = str(facts.get("run_id"))
    folders = list(dict.fromkeys((record.path.parent, runs_dir)))
    for folder in folders:
        try:
            found = finished_run(folder, teacher, weights=False)
        except ValueError:
            continue
        if found.result and found.result["weights_sha256"] != facts.get("weights_sha256"):
            return None, f"the teacher's run {teacher} has other weights now than those that taught {record.run_id}"
        return found, ""
    places = " or ".join(map(str, folders))
    return None, f"the run of the teacher, {teacher}, is not in {places}: bring it by distill import"


def unlike_images(record: RunRecord, other: RunRecord) -> bool:
    """Whether two runs are known to be measured on unlike images."""
    mine, theirs = (_evaluated(each) for each in (record, other))
    return mine is not None and theirs is not None and mine != theirs


def _evaluated(record: RunRecord) -> Any:
    """What says which images a run was measured on: the test set's digest, or training set and hold-out."""
    data = record.identity.get("data")
    if not isinstance(data, Mapping) or data.get("train") is None:
        return None
    return (data["train"], data["holdout"]) if data.get("holdout") else data.get("test")
