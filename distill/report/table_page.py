"""The page of a published table: our runs in its cells, drawn next to the published numbers."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from distill.report.drawing import band, dots, dots_legend, drawing, label_dots, line, styles_of, whole_epochs
from distill.report.page import (
    INK,
    Block,
    Figure,
    PageColumn,
    PageTable,
    Section,
    Text,
    number_columns,
    report_files,
    text_columns,
)
from distill.tables.cells import MeasuredTable
from distill.tables.published import Cell, TableColumn
from distill.tables.published_layouts import commands, details, distinction, notes, paper_layout
from distill.tables.rendering import TextTable
from distill.tables.rows import Row
from distill.tables.values import number, preset_name

Histories = Mapping[str, Sequence[Mapping[str, Any]]]  # the lines of metrics.jsonl, by run id
Provenance = Mapping[str, Mapping[str, Any]]  # provenance.json, by run id


def table_files(measured: MeasuredTable, histories: Histories, provenance: Provenance) -> dict[str, str]:
    """The page and its figures by their names."""
    tables = [_table(each) for each in (paper_layout(measured), details(measured)) if each is not None]
    remarks = [Text(f"{note[:1].upper()}{note[1:]}.") for note in notes(measured)]
    listed = commands(measured)
    filled = Text("Nothing is missing: every cell that can be trained has its seeds.")
    sections = [
        Section("table", "Published and ours", [*tables, *remarks]),
        Section("pictures", "Cells and curves", _figures(measured, histories)),
        Section("runs", "Runs and provenance", [_runs(measured, provenance)]),
        Section("missing", "Missing runs", [_table(listed) if listed else filled]),
    ]
    return report_files(
        f"Table {measured.shown.name}: {measured.shown.title}", f"Source: {measured.shown.source}.", sections
    )


def table_record(measured: MeasuredTable) -> dict[str, Any]:
    """What report.json holds: the subject, and the runs by cell."""
    rows = [(cell, row) for cell in measured.shown.cells.values() for row in measured.of(cell) if not row.members]
    return {
        "subject": f"table {measured.shown.name}",
        "cells": [
            {"row": cell.row, "column": cell.column, "runs": [run.run_id for run in row.runs]} for cell, row in rows
        ],
    }


def cells(measured: MeasuredTable) -> dict[str, Any]:
    """Of each column with runs of ours, and each line there: accuracies (percent) after the last epoch by seed (over
    several teachers: by teacher) with mean and deviation, and the published number with its epoch.
    """
    columns = {}
    for column in measured.shown.columns:
        lines = [
            {
                "label": label,
                "preset": preset_name(row.first.names["loss"]),
                "runs": [run.run_id for run in row.runs],
                "values": {str(key): value for key, value in row.by_unit.items()},
                **_mean_and_deviation(list(row.by_unit.values())),
                "published": cell.value,
                "published_epochs": cell.epochs,
                "published_runs": cell.runs,
            }
            for cell, row, label in _rows(measured, column)
        ]
        if lines:
            columns[column.label] = lines
    return {"table": measured.shown.name, "columns": columns}


def bands(measured: MeasuredTable, histories: Histories) -> dict[str, Any]:
    """Of each column, for each line of one teacher: accuracy by epoch, mean and deviation over its seeds."""
    columns = {}
    for column in measured.shown.columns:
        found = [_band(row, label, histories) for _, row, label in _rows(measured, column) if not row.members]
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
    summaries = [_mean_and_deviation(by_epoch[epoch]) for epoch in sorted(by_epoch)]
    return {
        "label": label,
        "preset": preset_name(row.first.names["loss"]),
        "n": len(row.runs),
        "epoch": sorted(by_epoch),
        "mean": [each["mean"] for each in summaries],
        "deviation": [each["deviation"] for each in summaries],
    }


def _rows(measured: MeasuredTable, column: TableColumn) -> Iterator[tuple[Cell, Row, str]]:
    """The rows of our runs in a column, each with its cell and its label."""
    for cell in measured.shown.cells.values():
        rows = measured.of(cell) if cell.column == column.key else ()
        for row in rows:
            words = distinction(row, sum(not other.members for other in rows))
            label = measured.shown.row(cell.row).label
            yield cell, row, f"{label} ({words})" if words else label


def _mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else None}


def draw_cells(numbers: Mapping[str, Any]) -> str:
    """A panel for every column, a row for every line: runs, mean with deviation, and the published number."""
    columns = numbers["columns"]
    most = max(map(len, columns.values()))
    size = {"margin": 0.7, "height": 0.9 + 0.36 * most, "width": 8.6}
    with drawing(len(columns), min(2, len(columns)), **size) as drawn:
        for axes, (name, lines) in zip(drawn.panels, columns.items(), strict=True):
            for y, (each, style) in enumerate(zip(lines, styles_of([each["preset"] for each in lines]), strict=True)):
                dots(axes, y, list(each["values"].values()), each["mean"], each["deviation"], style.colour)
                if each["published"] is not None:
                    axes.plot(each["published"], y, "D", mfc="none", mec=INK, ms=7, mew=1.3)
            label_dots(axes, [each["label"] for each in lines])
            axes.set_xlabel("accuracy after the last epoch (%)")
            axes.set_title(name)
        dots_legend(drawn, "a run of ours", published=_is_published(numbers))
        return drawn.svg()


def draw_bands(numbers: Mapping[str, Any]) -> str:
    """A panel for every column: mean by epoch, and the deviation around it where there are several seeds."""
    columns = numbers["columns"]
    across = min(2, len(columns))
    with drawing(len(columns), across, margin=0.9, height=3.4, width=8.6 if across > 1 else 6.4) as drawn:
        for axes, (name, lines) in zip(drawn.panels, columns.items(), strict=True):
            for each, style in zip(lines, styles_of([each["preset"] for each in lines]), strict=True):
                line(axes, each["epoch"], each["mean"], style, f"{each['label']}, n = {each['n']}")
                band(axes, each["epoch"], each["mean"], each["deviation"], style.colour)
            axes.set_title(name)
            whole_epochs(axes)
            axes.set_ylabel("accuracy (%)")
            axes.legend(loc="lower right")
        return drawn.svg()


def _is_published(numbers: Mapping[str, Any]) -> bool:
    return any(each["published"] is not None for lines in numbers["columns"].values() for each in lines)


def _table(table: TextTable) -> PageTable:
    """Sortable where every row has a name: a row without one belongs to the row above it."""
    columns = list(map(PageColumn, table.headers, table.numeric))
    return PageTable(table.title or "The table.", columns, table.rows, sortable=all(row[0] for row in table.rows))


def _figures(measured: MeasuredTable, histories: Histories) -> list[Block]:
    found, curves = cells(measured), bands(measured, histories)
    if not found["columns"]:
        text = "None of our finished runs belongs to a cell shown here. The last section lists the missing runs."
        return [Text(text, missing=True)]
    means = "; ".join(
        f"{name}: " + ", ".join(f"{each['label']} {each['mean']:.2f} %" for each in lines)
        for name, lines in found["columns"].items()
    )
    beside = " and the published numbers, which follow their own epoch rule (see the table)"
    made: list[Block] = [
        Figure(
            "cells",
            f"Our runs after the last epoch{beside if _is_published(found) else ''}. A method has one colour in all "
            "figures.",
            f"Dot charts of accuracies. Means of ours: {means}.",
            found,
            draw_cells(found),
        )
    ]
    if not curves["columns"]:
        return [*made, Text("No run has a record of its epochs (metrics.jsonl), so there are no curves.", missing=True)]
    made.append(
        Figure(
            "curves",
            "Accuracy by epoch, mean over the seeds; the band is one standard deviation to either side.",
            f"Line charts over the epochs for {', '.join(curves['columns'])}.",
            curves,
            draw_bands(curves),
        )
    )
    return made


def _runs(measured: MeasuredTable, provenance: Provenance) -> Block:
    rows = []
    for cell in measured.shown.cells.values():
        for row in (row for row in measured.of(cell) if not row.members):
            for run in row.runs:
                facts = provenance.get(run.run_id, {})
                rows.append(
                    (
                        run.run_id,
                        measured.shown.row(cell.row).label,
                        measured.shown.column(cell.column).label,
                        str(run.seed),
                        number(run.last),
                        number(run.best),
                        str(run.teacher.run_id) if run.teacher else "none",
                        run.precision,
                        str(facts.get("device") or "-"),
                        str(facts.get("commit") or "-")[:12],
                        number(run.seconds, 0),
                    )
                )
    if not rows:
        return Text("There are no runs yet.", missing=True)
    columns = [*text_columns("run", "row", "column"), *number_columns("seed", "last epoch (%)", "best epoch (%)")]
    columns += [*text_columns("teacher", "precision", "device", "commit"), *number_columns("training (s)")]
    return PageTable("The runs in the cells. Click a column header to sort by it.", columns, rows, sortable=True)
