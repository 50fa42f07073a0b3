"""The finished run that somebody names, or the sentence why there is none. Imports no torch."""

from pathlib import Path

from distill.exports.folder import RECORD
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, find, lacks, weightless


def finished_run(runs_dir: Path, run: str) -> RunRecord:
    """The finished run that `run` means: the head of its id, its folder's name in `runs_dir`, or the folder.

    Raises:
        ValueError: no run or several match, it is not finished, or its weights are not here.
        StorageError: its files are damaged.
    """
    record = find(runs_dir, run)
    if (record.path / RECORD).is_file():
        raise ValueError(f"{record.path} is an export, not a run: name the run {record.run_id} that it was made of")
    if record.status == "damaged":
        raise StorageError(record.message)
    if record.status != "finished":
        remedy = "add --retry to its command" if record.status == "failed" else "type its command again"
        raise ValueError(f"run={run} is {record.status}, not finished: {remedy} to finish it")
    if damage := lacks(record):
        raise StorageError(damage)
    if sentence := weightless(record.path):
        raise ValueError(sentence)
    return record
