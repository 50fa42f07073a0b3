"""Methods against the baseline of their table: every cell's runs against those of the baseline's cell.

Differences are of the last epoch. Welch's interval is the headline; the one paired by seed (over several teachers: by
teacher) stands beside it with the measured correlation. All cells of a table are looked at together, so Welch's
p-values are adjusted by Holm over one family: every cell with a difference, once. Where a cell has a row over several
teachers that one counts, and those of its single teachers do not; cells that hold the same runs count once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.tables.published.content import Cell
from distill.tables.published.measured import Key, Line, Measured
from distill.tables.statistics import Interval, Paired, holm, paired, summarize, welch

# What may differ between a cell and its baseline: the method, and the schedule that is the method's own.
METHOD_SECTIONS = ("seed", "objective", "teacher", "recipe")


@dataclass(frozen=True)
class Against:
    """A line against its baseline in percentage points; `holm` is its adjusted p-value, None outside the family."""

    baseline: Line
    points: float
    welch: Interval | None
    paired: Paired | None
    holm: float | None


@dataclass(frozen=True)
class Entry:
    """A line with its difference, None where it has no baseline or is one."""

    line: Line
    against: Against | None


@dataclass(frozen=True)
class Compared:
    """The lines of every cell with their differences; `family` is the number of differences adjusted together."""

    measured: Measured
    entries: Mapping[Key, tuple[Entry, ...]]
    family: int

    def of(self, cell: Cell) -> tuple[Entry, ...]:
        """The entries of a cell."""
        return self.entries.get((cell.row, cell.column), ())


def compare(measured: Measured) -> Compared:
    """Compare every line with the baseline's line of the same teacher."""
    found = {key: [_against(line, measured) for line in lines] for key, lines in measured.lines.items()}
    tests: dict[frozenset[str], float] = {}
    for key, lines in measured.lines.items():
        summed = {id(row) for line in lines if line.over for row in line.rows}
        for line, against in zip(lines, found[key], strict=True):
            counts = line.over is not None or id(line.row) not in summed
            if against is not None and against.welch is not None and counts:
                tests[_runs(line, against)] = against.welch.p
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    entries = {
        key: tuple(_entry(*pair, adjusted) for pair in zip(lines, found[key], strict=True))
        for key, lines in measured.lines.items()
    }
    return Compared(measured, entries, len(tests))


def _entry(line: Line, against: Against | None, adjusted: Mapping[frozenset[str], float]) -> Entry:
    if against is None:
        return Entry(line, None)
    p = adjusted.get(_runs(line, against))
    return Entry(line, Against(against.baseline, against.points, against.welch, against.paired, p))


def _against(line: Line, measured: Measured) -> Against | None:
    cell = measured.table.baseline_of(line.cell)
    baseline = _baseline(line, measured.of(cell)) if cell else None
    if baseline is None:
        return None
    ours, theirs = line.sample.last, baseline.sample.last
    return Against(
        baseline=baseline,
        points=summarize(list(ours.values())).mean - summarize(list(theirs.values())).mean,
        welch=welch(list(ours.values()), list(theirs.values())),
        paired=paired(ours, theirs),
        holm=None,
    )


def _baseline(line: Line, candidates: Sequence[Line]) -> Line | None:
    """The line of the baseline's cell with the same teacher or teachers; without teachers, the only one there is."""
    alike = [each for each in candidates if _context(each) == _context(line)]
    over = [each for each in alike if each.over]
    single = [each for each in alike if not each.over]
    alone = [each for each in single if each.row.teacher is None]
    if line.over or line.row.teacher is None:
        found = over or (single if line.row.teacher is None else alone)
    else:
        weights, source = line.row.teacher.weights, line.row.teacher.source
        same = [each for each in single if each.row.teacher and each.row.teacher.weights == weights]
        found = [each for each in same if each.row.teacher and each.row.teacher.source == source] or same or alone
    return found[0] if len(found) == 1 else None


def _context(line: Line) -> str:
    run = line.row.first
    kept = {key: value for key, value in run.identity.items() if key not in METHOD_SECTIONS}
    return json.dumps([kept, run.precision, run.split], sort_keys=True)


def _runs(line: Line, against: Against) -> frozenset[str]:
    return frozenset(run.run_id for each in (line, against.baseline) for run in each.runs)
