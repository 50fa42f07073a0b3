"""A compared table as data with full precision: the JSON document, and one record a line for CSV."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from distill.tables.published import told
from distill.tables.published.comparison import Against, Entry
from distill.tables.published.content import Cell
from distill.tables.published.remarks import notes
from distill.tables.published.verdict import Sample
from distill.tables.published.view import View
from distill.tables.statistics import summarize
from distill.tables.values import flatten


def document(view: View) -> dict[str, Any]:
    """The shown table for JSON: what is published of each cell, its lines with runs and seeds, and how to fill it."""
    table = view.shown
    return {
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "dataset": table.dataset,
        "baseline": {"row": table.baseline_row, "column": table.baseline_column},
        "family": view.compared.family,
        "columns": [asdict(column) for column in table.columns],
        "rows": [asdict(row) for row in table.rows],
        "cells": [_cell(view, cell) for cell in table.cells.values()],
        "notes": notes(view),
    }


def flat(view: View) -> list[dict[str, Any]]:
    """One record for each line of a cell, and one for a cell without lines; all have the same keys."""
    records = []
    for cell in view.shown.cells.values():
        known = {key: value for key, value in _cell(view, cell).items() if key != "lines"}
        # weights have other keys in every cell: one column holds them all
        known["published"]["weights"] = " ".join(f"{key}={value:g}" for key, value in cell.weights.items())
        records += [flatten({**known, "ours": _line(entry)}) for entry in view.entries(cell) or (None,)]
    return records


def _cell(view: View, cell: Cell) -> dict[str, Any]:
    column = view.shown.column(cell.column)
    return {
        "row": cell.row,
        "column": cell.column,
        "published": {
            "accuracy": cell.value,
            "top5": cell.top5,
            "epochs": cell.epochs if cell.value is not None else None,
            "runs": cell.runs,
            "deviation": cell.deviation,
            "temperature": cell.temperature,
            "weights": dict(cell.weights),
            "teacher_accuracy": column.teacher_accuracy,
            "source": view.shown.row(cell.row).source,
        },
        "notes": [*view.shown.row(cell.row).notes, *cell.notes],
        "is_baseline": view.is_baseline(cell),
        "untrainable": cell.untrainable,
        "missing_seeds": view.missing(cell),
        "command": view.command(cell) or None,
        "seconds_of_one_run": view.seconds(cell),
        "lines": [_line(entry) for entry in view.entries(cell)],
    }


def _line(entry: Entry | None) -> dict[str, Any]:
    line = entry.line if entry else None
    verdict = line.verdict if line else None
    teacher = line.row.teacher if line and not line.over else None
    ours = line.sample if line else None
    return {
        "unit": None if line is None else "teacher" if line.over else "seed",
        "words": None if line is None else " ".join(line.words),
        "teacher": line.teacher if line else None,
        "teacher_accuracy": teacher.accuracy if teacher else None,
        "teacher_weights_sha256": teacher.weights if teacher else None,
        "source": teacher.source if teacher else None,
        "precision": line.row.first.precision if line else None,
        "student_seeds": len(line.runs) if line else 0,
        "teachers": 0 if line is None else len(line.rows) if line.over or line.row.teacher else 0,
        "seeds": [run.seed for run in line.runs] if line else [],
        "runs": [run.run_id for run in line.runs] if line else [],
        "last": _values(ours, "last"),
        "best": _values(ours, "best"),
        "within_deviation": line.over.within if line and line.over else None,
        "half_interval": line.over.half if line and line.over else None,
        "verdict": {
            "word": verdict.word if verdict else None,
            "difference": verdict.difference if verdict else None,
            "low": verdict.low if verdict else None,
            "high": verdict.high if verdict else None,
            "runs_that_would_tell": verdict.runs if verdict else None,
            "why": (verdict.why or None) if verdict else None,
        },
        "difference": _against(entry.against if entry else None),
    }


def _values(ours: Sample | None, reading: str) -> dict[str, Any]:
    values: Mapping[Any, float] | None = getattr(ours, reading) if ours else None
    summary = summarize(list(values.values())) if values else None
    return {
        "mean": summary.mean if summary else None,
        "deviation": summary.deviation if summary else None,
        "values": list(values.values()) if values else [],
    }


def _against(found: Against | None) -> dict[str, Any]:
    welch, paired = (found.welch, found.paired) if found else (None, None)
    baseline = found.baseline if found else None
    return {
        "baseline": f"{baseline.cell.row}, {baseline.cell.column}" if baseline else None,
        "baseline_words": told.apart(baseline, 2) if baseline else None,
        "points": found.points if found else None,
        "welch_low": welch.low if welch else None,
        "welch_high": welch.high if welch else None,
        "welch_degrees": welch.degrees if welch else None,
        "welch_p": welch.p if welch else None,
        "holm_p": found.holm if found else None,
        "paired_points": paired.interval.difference if paired else None,
        "paired_low": paired.interval.low if paired else None,
        "paired_high": paired.interval.high if paired else None,
        "pairs": paired.pairs if paired else None,
        "correlation": paired.correlation if paired else None,
    }
