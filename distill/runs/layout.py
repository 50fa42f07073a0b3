"""The names inside a run directory, and where a run lies below `runs_dir`."""

import os
import re
from functools import lru_cache
from pathlib import Path

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"
LAST = "last.safetensors"
PREVIOUS = "previous.safetensors"
STUDENT = "student.safetensors"
STUDENT_EMA = "student_ema.safetensors"  # the average of the student's weights, where the recipe has one
RESULT = "result.json"
FAILED = "failed.json"
LOCK = "lock"
EXPORT = "export.json"  # in a folder that `distill export` wrote
TABLES = "tables"  # of a teacher's logits, one folder each
PUBLISHED = ".teachers"  # in a store: accuracies and tables of teachers that are no runs, one folder each
SEARCHES = ".optuna"  # in a store: the journals of searches, one folder each

# the last word in the loss name of a run that is the first stage of a method
FIRST_STAGE = "first_stage"


def run_path(runs_dir: Path, *, student: str, objective: str, seed: int, run_id: str) -> Path:
    """`runs_dir/STUDENT-OBJECTIVE-sSEED-ID`; depends on the config alone (no clock, no counter).

    A preset in a folder (`ablation/mean_only`) and anything else that is no plain file name is written with
    `_`.
    """
    return runs_dir / f"{_plain(student)}-{_plain(objective)}-s{seed}-{run_id}"


def up_to_store(folder: Path) -> tuple[Path, ...]:
    """A folder in a store (of a run, a table, a teacher that is no run, a search) and those above it in that store."""
    inner = folder.parent.name
    if inner in (PUBLISHED, SEARCHES):
        return folder, folder.parent
    return (folder, folder.parent, *up_to_store(folder.parent.parent)) if inner == TABLES else (folder,)


def folder_of(runs_dir: Path, run_id: str) -> Path | None:
    """The folder in `runs_dir` whose name ends in this id, whatever stands before it; None where there is none."""
    try:
        return _folders(runs_dir, runs_dir.stat().st_mtime_ns).get(run_id)
    except OSError:
        return None


@lru_cache(maxsize=4)
def _folders(runs_dir: Path, changed: int) -> dict[str, Path]:
    """The run folders by the id at the end of their names, read again whenever `runs_dir` has `changed`."""
    names = sorted(entry.name for entry in os.scandir(runs_dir) if entry.is_dir(follow_symlinks=False))
    found = [runs_dir / name for name in names if "-" in name and not os.path.exists(runs_dir / name / EXPORT)]
    return {path.name.rpartition("-")[2]: path for path in reversed(found)}


def _plain(name: str) -> str:
    # the name is for people; the id alone makes the path unique, so shortening loses nothing
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:60].lstrip(".") or "_"
