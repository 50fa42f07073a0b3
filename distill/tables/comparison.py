"""What the difference between a row and its baseline is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.naming import Named
from distill.tables.statistics import Interval, Paired, paired, welch

DEFAULT_BASELINE = "ce"


@dataclass(frozen=True)
class Difference:
    """A row against its baseline, in percentage points of accuracy after the last epoch."""

    baseline: Named
    points: float
    welch: Interval | None
    paired: Paired | None


@dataclass(frozen=True)
class Compared:
    """How a row stands to the baseline: it has a difference, is a baseline itself, or neither.

    `ambiguous` holds the rows between which nothing decides where several could be its baseline.
    """

    difference: Difference | None
    is_baseline: bool
    ambiguous: tuple[Named, ...] = ()


def compare(rows: Sequence[Row], candidates: Sequence[Named], *, preset: str) -> list[Compared]:
    """Compare each row with the candidate named `preset` (a preset, or a row's full name).

    A baseline shares everything with its row but the loss: data, student, recipe, precision, and the weights
    of the teacher where both have one.
    """
    found = [_baselines(row, candidates, preset) for row in rows]
    differences = [
        _difference(row, each[0]) if len(each) == 1 and not _same(row, each[0].row) else None
        for row, each in zip(rows, found, strict=True)
    ]
    used = [each.baseline.row for each in differences if each]
    return [
        Compared(
            difference=difference,
            is_baseline=any(_same(row, other) for other in used),
            ambiguous=tuple(each) if len(each) > 1 else (),
        )
        for row, each, difference in zip(rows, found, differences, strict=True)
    ]


def unseen(compared: Sequence[Compared], rows: Sequence[Row]) -> list[Named]:
    """The baselines that differences were taken to although the filters left them out of the rows."""
    baselines = dict.fromkeys(each.difference.baseline for each in compared if each.difference)
    return [each for each in baselines if not any(_same(each.row, row) for row in rows)]


def _baselines(row: Row, candidates: Sequence[Named], preset: str) -> list[Named]:
    alike = [each for each in candidates if each.row.context == row.context and preset in each.called]
    # `kd` is the row of the preset as it is, if there is one, rather than that of `kd temperature=8`
    exactness = min((each.called.index(preset) for each in alike), default=0)
    alike = [each for each in alike if each.called.index(preset) == exactness]
    itself = [each for each in alike if _same(row, each.row)]
    if itself:
        return itself
    teacher = row.teacher
    if teacher is None:
        return alike
    alike = [each for each in alike if each.row.teacher is None or each.row.teacher.weights == teacher.weights]
    closest = [each for each in alike if each.row.teacher and each.row.teacher.source == teacher.source]
    return closest or alike


def _difference(row: Row, baseline: Named) -> Difference:
    ours, theirs = row.by_seed, baseline.row.by_seed
    return Difference(
        baseline=baseline,
        points=row.last.mean - baseline.row.last.mean,
        welch=welch(list(ours.values()), list(theirs.values())),
        paired=paired(ours, theirs),
    )


def _same(row: Row, other: Row) -> bool:
    # a filter may have left a row some of its runs only
    return bool(row.run_ids & other.run_ids)
