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
    """The changes to the run's `dataset` node; nothing is fetched but on command. Raises UsageError."""
    node = record.config["dataset"]
    given = {key.removeprefix("dataset."): value for key, value in line.pairs.items() if key.startswith("dataset.")}
    for key in given:
        if key not in node:
            name = preset_name(str(record.names.get("dataset", "its data set")))
            raise UsageError([f"dataset.{key} is not a key of {name}: leave it out"])
    changes: dict[str, Any] = dict(given)
    if "download" in node:
        changes["download"] = given.get("download") == "true"
    if ("root" in given or changes.get("download")) and "npz" in node and "npz" not in given:
        changes["npz"] = None  # what is named now takes the place of the file the run was trained on
    return changes


def _holds_runs(line: CommandLine) -> bool:
    try:
        return bool(scan(line.runs_dir))
    except StorageError as error:
        raise UsageError([str(error)]) from error
