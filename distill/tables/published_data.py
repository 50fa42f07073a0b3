"""A published table with our runs in every format, and as data: a record for each row of a cell."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from distill.tables.cells import MeasuredTable
from distill.tables.comparison import interval_records
from distill.tables.published import Cell
from distill.tables.published_layouts import cell_table, commands, details, distinction, notes, paper_layout
from distill.tables.rendering import Content, TextTable
from distill.tables.rows import Difference, Row
from distill.tables.statistics import summarize
from distill.tables.values import fields, flatten


def content(measured: MeasuredTable) -> Content:
    """The table in every form that `distill table` writes."""
    return Content(
        table=lambda everything: cell_table(measured, everything=everything),
        records=lambda: records(measured),
        document=lambda: document(measured),
        notes=lambda: notes(measured),
        pages=lambda form: _pages(measured, form),
    )


def _pages(measured: MeasuredTable, form: str) -> list[TextTable]:
    # commands are not part of a paper, and wider than its page
    below = [details(measured), None if form == "latex" else commands(measured)]
    return [paper_layout(measured), *(table for table in below if table is not None)]


def document(measured: MeasuredTable) -> dict[str, Any]:
    """The shown table for JSON: the published values of each cell, our rows with runs and seeds, and how to fill it."""
    shown = measured.shown
    return {
        "table": shown.name,
        **fields(shown, "title", "source", "dataset"),
        "baseline": {"row": shown.baseline_row, "column": shown.baseline_column},
        "family": measured.tests,
        "columns": [asdict(column) for column in shown.columns],
        "rows": [asdict(row) for row in shown.rows],
        "cells": [_cell_record(measured, cell) for cell in shown.cells.values()],
        "notes": notes(measured),
    }


def records(measured: MeasuredTable) -> list[dict[str, Any]]:
    """One record for each row of a cell, and one for a cell without rows; all have the same keys."""
    found = []
    for cell in measured.shown.cells.values():
        known = {key: value for key, value in _cell_record(measured, cell).items() if key != "lines"}
        # weights have other keys in every cell: one column holds them all
        known["published"]["weights"] = " ".join(f"{key}={value:g}" for key, value in cell.weights.items())
        found += [flatten({**known, "ours": _row_record(row)}) for row in measured.of(cell) or (None,)]
    return found


def _cell_record(measured: MeasuredTable, cell: Cell) -> dict[str, Any]:
    row, column = measured.shown.row(cell.row), measured.shown.column(cell.column)
    return {
        "row": cell.row,
        "column": cell.column,
        "published": {
            "accuracy": cell.value,
            "top5": cell.top5,
            "epochs": cell.epochs if cell.value is not None else None,
            **fields(cell, "runs", "deviation", "temperature"),
            "weights": dict(cell.weights),
            "teacher_accuracy": column.teacher_accuracy,
            "source": row.source,
        },
        "notes": [*row.notes, *cell.notes],
        "is_baseline": measured.is_baseline(cell),
        "untrainable": cell.untrainable,
        "missing_seeds": measured.missing(cell),
        "command": measured.command(cell) or None,
        "seconds_of_one_run": measured.seconds(cell),
        "lines": [_row_record(row) for row in measured.of(cell)],
    }


def _row_record(row: Row | None) -> dict[str, Any]:
    teacher, verdict = (row.teacher, row.verdict) if row else (None, None)
    return {
        **fields(row, "unit"),
        "qualifiers": " ".join(row.qualifiers) if row else None,
        "teacher": row.teacher_name if row else None,
        **fields(teacher, "accuracy", prefix="teacher_"),
        "teacher_weights_sha256": teacher.weights if teacher else None,
        **fields(teacher, "source"),
        **fields(row, "precision"),
        "student_seeds": len(row.runs) if row else 0,
        "teachers": len(row.members) or int(row.teacher is not None) if row else 0,
        "seeds": [run.seed for run in row.runs] if row else [],
        "runs": [run.run_id for run in row.runs] if row else [],
        "last": _values_record(row.by_unit if row else None),
        "best": _values_record(row.best_by_unit if row else None),
        "within_deviation": row.within if row and row.members else None,
        "half_interval": row.half if row and row.members else None,
        "verdict": {
            **fields(verdict, "word", "difference", "low", "high"),
            "runs_needed": verdict.runs if verdict else None,
            "why": (verdict.why or None) if verdict else None,
        },
        "difference": _difference_record(row.difference if row else None),
    }


def _values_record(values: Mapping[Any, float] | None) -> dict[str, Any]:
    summary = summarize(list(values.values())) if values else None
    return fields(summary, "mean", "deviation") | {"values": list(values.values()) if values else []}


def _difference_record(found: Difference | None) -> dict[str, Any]:
    cell = found.baseline.cell if found else None
    against_welch, by_pairs = interval_records(found)
    return {
        "baseline": f"{cell.row}, {cell.column}" if cell else None,
        "baseline_qualifiers": distinction(found.baseline, 2) if found else None,
        **against_welch,
        **fields(found and found.welch, "p", prefix="welch_"),
        "holm_p": found.holm if found else None,
        **by_pairs,
    }
