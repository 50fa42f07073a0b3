"""The finished run that `run=` names, and where its data lie now: for verbs that work on one run. Imports no torch."""

import os
from typing import Any

from distill.cli.grammar import CommandLine, UsageError
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, finished_run, scan
from distill.tables.values import preset_name


def chosen_run(line: CommandLine) -> RunRecord | None:
    """The finished run that `run=` means, None where the store is empty.

    Raises:
        UsageError: no run or several match, or it is not finished.
        StorageError: its files are damaged.
    """
    run = line.pairs["run"]
    try:
        return finished_run(line.runs_dir, run)
    except ValueError as error:
        if os.sep not in run and not _holds_runs(line):
            return None
        raise UsageError([str(error)]) from error


def changed_places(line: CommandLine, record: RunRecord) -> dict[str, Any]:
    """Where the command says that the run's data lie. Raises UsageError if its data set has no such place."""
    places = given_places(line)
    for key in places:
        if key not in record.config["dataset"]:
            name = preset_name(str(record.names.get("dataset", "its data set")))
            raise UsageError([f"dataset.{key} is not a key of {name}: leave it out"])
    return places


def given_places(line: CommandLine) -> dict[str, Any]:
    """Where the command says that the data lie: of `npz`, `root` and `download` what is given."""
    places: dict[str, Any] = {
        key: line.pairs[f"dataset.{key}"] for key in ("npz", "root", "download") if f"dataset.{key}" in line.pairs
    }
    return places | ({"download": places["download"] == "true"} if "download" in places else {})


def _holds_runs(line: CommandLine) -> bool:
    try:
        return bool(scan(line.runs_dir))
    except StorageError as error:
        raise UsageError([str(error)]) from error
