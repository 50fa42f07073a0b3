"""From a published table with our runs to the files of its page."""

from collections.abc import Mapping
from typing import Any

from distill.report.assembled import assembled
from distill.report.blocks import Block, Chapter, Figure, Table, Text, columns, number
from distill.report.published.cells import Histories, bands, cells
from distill.report.published.drawings import draw_bands, draw_cells
from distill.tables.cells import MeasuredTable
from distill.tables.published_layouts import commands, details, notes, paper_layout
from distill.tables.rendering import TextTable

_NONE = "No finished run of ours fills a cell that is shown, so there is nothing to draw; the table says what would."
_BESIDE = " beside the published numbers, which follow their own epoch rule: the table says which"


def table_files(
    measured: MeasuredTable, histories: Histories, provenance: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The page and its figures by their names; `histories` and `provenance` are by run id."""
    made = [_table(measured), _pictures(measured, histories), _runs(measured, provenance), _missing(measured)]
    return assembled(f"Table {measured.shown.name}: {measured.shown.title}", f"Source: {measured.shown.source}.", made)


def table_record(measured: MeasuredTable) -> dict[str, Any]:
    """What report.json says: the subject, and the runs by cell."""
    cells = measured.shown.cells.values()
    return {
        "subject": f"table {measured.shown.name}",
        "cells": [
            {"row": cell.row, "column": cell.column, "runs": [run.run_id for run in row.runs]}
            for cell in cells
            for row in measured.of(cell)
            if not row.members
        ],
    }


def _table(measured: MeasuredTable) -> Chapter:
    blocks: list[Block] = [_sheet(each) for each in (paper_layout(measured), details(measured)) if each is not None]
    blocks += [Text(f"{note[:1].upper()}{note[1:]}.") for note in notes(measured)]
    return Chapter("table", "Published and ours", tuple(blocks))


def _missing(measured: MeasuredTable) -> Chapter:
    sheet = commands(measured)
    block = Text("Nothing: every cell that can be trained has its seeds.") if sheet is None else _sheet(sheet)
    return Chapter("missing", "What would fill the rest", (block,))


def _sheet(sheet: TextTable) -> Table:
    """Rows without a name of their own belong to the one above them: then no order but theirs makes sense."""
    named = all(row[0] for row in sheet.rows)
    return Table(sheet.title or "The table.", sheet.headers, sheet.rows, sheet.numeric, sortable=named)


def _pictures(measured: MeasuredTable, histories: Histories) -> Chapter:
    found, curves = cells(measured), bands(measured, histories)
    blocks: list[Block] = []
    if not found["columns"]:
        return Chapter("pictures", "Cells and curves", (Text(_NONE, missing=True),))
    published = any(each["published"] is not None for lines in found["columns"].values() for each in lines)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{each['label']} {each['mean']:.2f} %" for each in lines)
        for name, lines in found["columns"].items()
    )
    blocks.append(
        Figure(
            "cells",
            f"Our runs after the last epoch{_BESIDE if published else ''}. A method has one colour in all figures.",
            f"Dot charts of accuracies. Means of ours: {told}.",
            found,
            draw_cells(found),
        )
    )
    if curves["columns"]:
        blocks.append(
            Figure(
                "curves",
                "Accuracy by epoch, mean over the seeds; the band is one deviation to either side.",
                f"Line charts over the epochs for {', '.join(curves['columns'])}.",
                curves,
                draw_bands(curves),
            )
        )
    else:
        blocks.append(Text("No run has a record of its epochs (metrics.jsonl), so there are no curves.", missing=True))
    return Chapter("pictures", "Cells and curves", tuple(blocks))


def _runs(measured: MeasuredTable, provenance: Mapping[str, Mapping[str, Any]]) -> Chapter:
    heads = {"run": False, "row": False, "column": False, "seed": True, "last epoch (%)": True, "best epoch (%)": True}
    heads |= {"teacher": False, "precision": False, "device": False, "commit": False, "training (s)": True}
    headers, numeric = columns(heads)
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
        return Chapter("runs", "Runs and provenance", (Text("None yet.", missing=True),))
    table = Table(
        "The runs in the cells. The head of a column sorts by it.", headers, tuple(rows), numeric, sortable=True
    )
    return Chapter("runs", "Runs and provenance", (table,))
