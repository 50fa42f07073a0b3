"""`distill report table=NAME`: the page of a published table with our runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.cli import published
from distill.cli.grammar import CommandLine, UsageError, default_runs_dir
from distill.report.page import check_folder, write_report
from distill.runs.files import StorageError, read_json
from distill.runs.layout import METRICS, PROVENANCE
from distill.runs.lines import read_lines
from distill.runs.store import RunRecord, scan
from distill.tables.cells import measure_table

OTHERS = ("run", "against", "accuracy", "engine.device", "student._target_")  # what goes with a run alone


def report_table(line: CommandLine) -> Path:
    """Write the page and return its folder.

    Raises:
        UsageError: everything wrong with the command.
        StorageError: the folder cannot be written.
    """
    asked = published.read_asked(line)
    for key in line.pairs:
        if key in OTHERS or key.startswith("dataset."):
            line.faults.append(f"{key}= does not go with table=: leave one of them out")
    folder = line.out or Path("report", line.pairs["table"])
    if asked is not None:
        try:
            check_folder(folder, f"table {asked.table.name}")
        except ValueError as error:
            line.faults.append(str(error))
    line.check()
    assert asked is not None
    runs_dir = line.runs_dir
    try:
        records = scan(runs_dir) if runs_dir.is_dir() else []
        measured = measure_table(
            asked.table,
            records,
            shown=asked.shown,
            seeds=asked.seeds,
            runs_dir=None if runs_dir == default_runs_dir() else str(runs_dir),
            config_dir=line.config_dir,
        )
    except StorageError as error:
        raise UsageError([str(error)]) from error
    except ValueError as error:
        raise UsageError([f"table={asked.table.name}: {error}"]) from error
    used = {run_id for rows in measured.rows.values() for row in rows for run_id in row.run_ids}
    kept = {record.run_id: record for record in records if record.run_id in used}

    from distill.report.table_page import table_files, table_record  # imports matplotlib

    histories = {run_id: read_lines(record.path / METRICS) for run_id, record in kept.items()}
    provenance = {run_id: _provenance(record) for run_id, record in kept.items()}
    write_report(folder, table_files(measured, histories, provenance), record=table_record(measured))
    return folder


def _provenance(record: RunRecord) -> Mapping[str, Any]:
    try:
        return read_json(record.path / PROVENANCE) or {}
    except StorageError:
        return {}
