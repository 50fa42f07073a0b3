"""What is drawn of a published table, as plain data; accuracies are percent."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from distill.tables.published.content import Cell, Column
from distill.tables.published.measured import Line
from distill.tables.published.told import apart
from distill.tables.published.view import View
from distill.tables.values import preset_name

Histories = Mapping[str, Sequence[Mapping[str, Any]]]  # the lines of metrics.jsonl, by run id


def cells(view: View) -> dict[str, Any]:
    """Of each column with runs of ours: each line's values after the last epoch, by seed (over several teachers: by
    teacher), with mean and deviation, and the published number with its epoch.
    """
    columns = {}
    for column in view.shown.columns:
        lines = [_line(view, cell, line, words) for cell, line, words in _lines(view, column)]
        if lines:
            columns[column.label] = lines
    return {"table": view.shown.name, "columns": columns}


def _line(view: View, cell: Cell, line: Line, label: str) -> dict[str, Any]:
    values = line.sample.last
    return {
        "label": label,
        "preset": preset_name(line.runs[0].names["loss"]),
        "runs": [run.run_id for run in line.runs],
        "values": {str(key): value for key, value in values.items()},
        **_summary(list(values.values())),
        "published": cell.value,
        "published_epochs": cell.epochs,
        "published_runs": cell.runs,
    }


def bands(view: View, histories: Histories) -> dict[str, Any]:
    """Of each column, for each line of one teacher: accuracy by epoch, mean and deviation over its seeds."""
    columns = {}
    for column in view.shown.columns:
        found = [_band(line, label, histories) for _, line, label in _lines(view, column) if line.over is None]
        drawn = [band for band in found if band["epoch"]]
        if drawn:
            columns[column.label] = drawn
    return {"table": view.shown.name, "columns": columns}


def _band(line: Line, label: str, histories: Histories) -> dict[str, Any]:
    by_epoch: dict[int, list[float]] = {}
    for run in line.runs:
        for entry in histories.get(run.run_id, ()):
            part = entry.get(run.split)
            accuracy = part.get("accuracy") if isinstance(part, Mapping) else None
            if isinstance(entry.get("epoch"), int) and isinstance(accuracy, int | float):
                by_epoch.setdefault(entry["epoch"], []).append(float(accuracy))
    summaries = [_summary(by_epoch[epoch]) for epoch in sorted(by_epoch)]
    return {
        "label": label,
        "preset": preset_name(line.runs[0].names["loss"]),
        "n": len(line.runs),
        "epoch": sorted(by_epoch),
        "mean": [each["mean"] for each in summaries],
        "deviation": [each["deviation"] for each in summaries],
    }


def _lines(view: View, column: Column) -> Iterator[tuple[Cell, Line, str]]:
    """The lines of a column with what they are called there."""
    for cell in view.shown.cells.values():
        if cell.column != column.key:
            continue
        lines = [entry.line for entry in view.entries(cell)]
        for line in lines:
            words = apart(line, sum(each.over is None for each in lines))
            label = view.shown.row(cell.row).label
            yield cell, line, f"{label} ({words})" if words else label


def _summary(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else None}
