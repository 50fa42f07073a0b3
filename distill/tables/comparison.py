"""Compares rows with their baselines.

Differences are of accuracy after the last epoch. Welch's interval comes first, then the interval paired by seed (for a
row over several teachers: by teacher) and the correlation.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill.tables.published import Key, PublishedTable
from distill.tables.rows import Difference, Row
from distill.tables.statistics import holm, paired, welch
from distill.tables.values import fields

DEFAULT_BASELINE = "ce"


def compare_with(preset: str, rows: Sequence[Row], candidates: Sequence[Row]) -> list[Row]:
    """The rows with their difference from the candidate named `preset` (a preset, or a row's full name).

    A baseline shares everything with its row but the loss: data, student, recipe, precision, and the weights of the
    teacher where both have one.
    """
    baselines = _by_context(preset, candidates)
    by_teacher: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in (row for found in baselines.values() for row in found):
        by_teacher[row.context, row.teacher.weights if row.teacher else None].append(row)
    own = {run for found in baselines.values() for row in found for run in row.run_ids}
    chosen: dict[object, tuple[Row, ...]] = {}  # rows of one context and teacher share their baselines
    compared = []
    for row in rows:
        teacher = row.teacher
        same = by_teacher.get((row.context, teacher.weights)) if teacher else baselines.get(row.context)
        key = row.context, (teacher.weights, teacher.source) if teacher and same else teacher is None
        if key not in chosen:
            chosen[key] = tuple(_of_same_teacher(row, same or by_teacher.get((row.context, None), [])))
        found = chosen[key] if own.isdisjoint(row.run_ids) else ()
        if len(found) == 1:
            compared.append(replace(row, difference=_difference(row, found[0])))
        else:
            compared.append(replace(row, rivals=found) if found else row)
    used = {run for row in compared if row.difference for run in row.difference.baseline.run_ids}
    return [row if used.isdisjoint(row.run_ids) else replace(row, is_baseline=True) for row in compared]


def unseen_baselines(rows: Sequence[Row]) -> list[Row]:
    """The baselines that rows are compared with although the filters left them out of the rows."""
    shown = {run for row in rows for run in row.run_ids}
    baselines = dict.fromkeys(row.difference.baseline for row in rows if row.difference)
    return [row for row in baselines if shown.isdisjoint(row.run_ids)]


def compare_cells(table: PublishedTable, rows: Mapping[Key, Sequence[Row]]) -> tuple[dict[Key, tuple[Row, ...]], int]:
    """The rows of each cell with their differences to the table's baseline, and how many differences are tested.

    Welch's p-values are adjusted by Holm over one family: every cell with a difference, once. Where a cell has a row
    over several teachers, that one counts and those of its single teachers do not; cells with the same runs count once.
    """
    compared: dict[Key, list[Row]] = {}
    tests: dict[frozenset[str], float] = {}
    for key, of_cell in rows.items():
        baseline = table.baseline_of(table.cells[key])
        candidates = rows.get((baseline.row, baseline.column), ()) if baseline else ()
        compared[key] = [_compared_in_cell(row, candidates) for row in of_cell]
        pooled = {id(member) for row in of_cell for member in row.members}
        for row, found in zip(of_cell, compared[key], strict=True):
            if found.difference and found.difference.welch and id(row) not in pooled:
                tests[_tested(found)] = found.difference.welch.p
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    return {
        key: tuple(
            replace(row, difference=replace(row.difference, holm=adjusted.get(_tested(row)))) if row.difference else row
            for row in of_cell
        )
        for key, of_cell in compared.items()
    }, len(tests)


def interval_records(found: Difference | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A difference with full precision, for CSV and JSON: with Welch's interval, and paired."""
    pairs = found.paired if found else None
    unpaired = fields(found, "points") | fields(found and found.welch, "low", "high", "degrees", prefix="welch_")
    return unpaired, {
        "paired_points": pairs.interval.difference if pairs else None,
        **fields(pairs and pairs.interval, "low", "high", prefix="paired_"),
        **fields(pairs, "pairs", "correlation"),
    }


def _by_context(preset: str, candidates: Iterable[Row]) -> dict[str, list[Row]]:
    """The candidates of that name by context, those whose most exact name it is: `kd` before `kd temperature=8`."""
    named: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for row in candidates:
        if preset in row.names:
            named[row.context].append((row.names.index(preset), row))
    found = {}
    for context, rows in named.items():
        best = min(exactness for exactness, _ in rows)
        found[context] = [row for exactness, row in rows if exactness == best]
    return found


def _compared_in_cell(row: Row, candidates: Sequence[Row]) -> Row:
    # the schedule belongs to the method here
    sections = ("seed", "objective", "teacher", "recipe")
    alike = [each for each in candidates if each.without(*sections) == row.without(*sections)]
    found = _of_same_teacher(row, alike)
    return replace(row, difference=_difference(row, found[0])) if len(found) == 1 else row


def _of_same_teacher(row: Row, candidates: Sequence[Row]) -> list[Row]:
    """The candidates with the row's teacher or teachers, in the same form where there are such; else without one."""
    pooled = [each for each in candidates if each.members]
    single = [each for each in candidates if not each.members]
    alone = [each for each in single if each.teacher is None]
    if row.members:
        return pooled or alone
    if row.teacher is None:
        return pooled or single
    same = [each for each in single if each.teacher and each.teacher.weights == row.teacher.weights]
    return [each for each in same if each.teacher and each.teacher.source == row.teacher.source] or same or alone


def _difference(row: Row, baseline: Row) -> Difference:
    ours, theirs = row.by_unit, baseline.by_unit
    return Difference(
        baseline=baseline,
        points=row.last.mean - baseline.last.mean,
        welch=welch(list(ours.values()), list(theirs.values())),
        paired=paired(ours, theirs),
    )


def _tested(row: Row) -> frozenset[str]:
    return row.run_ids | row.difference.baseline.run_ids if row.difference else row.run_ids
