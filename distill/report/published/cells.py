"""What is drawn of a published table, as plain data; accuracies are percent."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from distill.tables.cells import MeasuredTable
from distill.tables.published import Cell, TableColumn
from distill.tables.published_layouts import distinction
from distill.tables.rows import Row
from distill.tables.values import preset_name

Histories = Mapping[str, Sequence[Mapping[str, Any]]]  # the lines of metrics.jsonl, by run id


def cells(measured: MeasuredTable) -> dict[str, Any]:
    """Of each column with runs of ours: each line's values after the last epoch, by seed (over several teachers: by
    teacher), with mean and deviation, and the published number with its epoch.
    """
    columns = {}
    for column in measured.shown.columns:
        lines = [_line(cell, row, label) for cell, row, label in _lines(measured, column)]
        if lines:
            columns[column.label] = lines
    return {"table": measured.shown.name, "columns": columns}


def _line(cell: Cell, row: Row, label: str) -> dict[str, Any]:
    values = row.by_unit
    return {
        "label": label,
        "preset": preset_name(row.first.names["loss"]),
        "runs": [run.run_id for run in row.runs],
        "values": {str(key): value for key, value in values.items()},
        **_summary(list(values.values())),
        "published": cell.value,
        "published_epochs": cell.epochs,
        "published_runs": cell.runs,
    }


def bands(measured: MeasuredTable, histories: Histories) -> dict[str, Any]:
    """Of each column, for each line of one teacher: accuracy by epoch, mean and deviation over its seeds."""
    columns = {}
    for column in measured.shown.columns:
        found = [_band(row, label, histories) for _, row, label in _lines(measured, column) if not row.members]
        drawn = [band for band in found if band["epoch"]]
        if drawn:
            columns[column.label] = drawn
    return {"table": measured.shown.name, "columns": columns}


def _band(row: Row, label: str, histories: Histories) -> dict[str, Any]:
    by_epoch: dict[int, list[float]] = {}
    for run in row.runs:
        for entry in histories.get(run.run_id, ()):
            part = entry.get(run.split)
            accuracy = part.get("accuracy") if isinstance(part, Mapping) else None
            if isinstance(entry.get("epoch"), int) and isinstance(accuracy, int | float):
                by_epoch.setdefault(entry["epoch"], []).append(float(accuracy))
    summaries = [_summary(by_epoch[epoch]) for epoch in sorted(by_epoch)]
    return {
        "label": label,
        "preset": preset_name(row.first.names["loss"]),
        "n": len(row.runs),
        "epoch": sorted(by_epoch),
        "mean": [each["mean"] for each in summaries],
        "deviation": [each["deviation"] for each in summaries],
    }


def _lines(measured: MeasuredTable, column: TableColumn) -> Iterator[tuple[Cell, Row, str]]:
    """The lines of a column with what they are called there."""
    for cell in measured.shown.cells.values():
        if cell.column != column.key:
            continue
        rows = measured.of(cell)
        for row in rows:
            words = distinction(row, sum(not each.members for each in rows))
            label = measured.shown.row(cell.row).label
            yield cell, row, f"{label} ({words})" if words else label


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else None}
