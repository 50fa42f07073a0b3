"""A table as data with full precision: the JSON document, and the same flattened for CSV."""

from collections.abc import Sequence
from typing import Any

from distill.tables.comparison import Difference
from distill.tables.naming import Named, dataset, holdout, precision, recipe, student
from distill.tables.remarks import notes
from distill.tables.replicates import replicate_of
from distill.tables.statistics import Summary
from distill.tables.table import Line, Table
from distill.tables.teachers import OverTeachers
from distill.tables.tuning import Tuning
from distill.tables.values import flatten


def document(table: Table) -> dict[str, Any]:
    """The table for JSON: rows with run ids, seeds and the value of every seed, and what is not shown."""
    return {
        "baseline": table.baseline,
        "rows": [_record(line) for line in table.lines],
        "over_teachers": [_over(named, each) for named, each in table.over],
        "tuned": [_tuning(each) for each in table.tunings],
        "not_shown": table.hidden,
        "notes": notes(table),
    }


def flat(table: Table) -> list[dict[str, Any]]:
    """The rows for CSV: nested keys joined by dots, one column each."""
    return [flatten(_record(line)) for line in table.lines]


def _record(line: Line) -> dict[str, Any]:
    row, replicate = line.row, replicate_of(line.row)
    return {
        "method": line.named.method,
        "loss": row.loss,
        "replicate_of": replicate.of if replicate else None,
        "dataset": dataset(row),
        "student": student(row),
        "teacher": _teacher(line),
        "recipe": recipe(row),
        "precision": precision(row),
        "split": row.first.split,
        "holdout": holdout(row),
        "n": row.last.n,
        "seeds": [run.seed for run in row.runs],
        "runs": [run.run_id for run in row.runs],
        "last": _summary(row.last, [run.last for run in row.runs]),
        "best": _summary(row.best, [run.best for run in row.runs]),
        "is_baseline": line.compared.is_baseline,
        "difference": _difference(line.compared.difference),
        "parameters": row.first.parameters,
        "seconds": row.seconds,
        "seconds_per_epoch": row.seconds_per_epoch,
        "peak_memory_bytes": row.peak_memory,
    }


def _over(named: Named, over: OverTeachers) -> dict[str, Any]:
    return {
        "method": named.method,
        "student": student(named.row),
        "teachers": over.last,
        "mean": over.means.mean,
        "between": over.means.deviation,
        "within": over.within,
        "low": over.means.mean - over.half,
        "high": over.means.mean + over.half,
    }


def _tuning(tuning: Tuning) -> dict[str, Any]:
    return {
        "method": tuning.method,
        "student": tuning.student,
        "holdout": tuning.images,
        "tried": [
            {"method": named.method, "runs": [run.run_id for run in named.row.runs], "accuracy": named.row.last.mean}
            for named in tuning.tried
        ],
    }


def _teacher(line: Line) -> dict[str, Any]:
    teacher = line.row.teacher
    return {
        "name": teacher.name if teacher else "none",
        "run_id": teacher.run_id if teacher else None,
        "weights_sha256": teacher.weights if teacher else None,
        "source": teacher.source if teacher else None,
        "accuracy": teacher.accuracy if teacher else None,
    }


def _summary(summary: Summary | None, values: Sequence[float | None]) -> dict[str, Any]:
    return {
        "mean": summary.mean if summary else None,
        "deviation": summary.deviation if summary else None,
        "values": list(values),
    }


def _difference(found: Difference | None) -> dict[str, Any]:
    welch = found.welch if found else None
    paired = found.paired if found else None
    return {
        "baseline": found.baseline.method if found else None,
        "points": found.points if found else None,
        "welch_low": welch.low if welch else None,
        "welch_high": welch.high if welch else None,
        "welch_degrees": welch.degrees if welch else None,
        "paired_points": paired.interval.difference if paired else None,
        "paired_low": paired.interval.low if paired else None,
        "paired_high": paired.interval.high if paired else None,
        "pairs": paired.pairs if paired else None,
        "correlation": paired.correlation if paired else None,
    }
