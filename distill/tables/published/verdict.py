"""Whether our runs reproduce a published number, with the noise of both sides.

The verdict is about d = ours - published, both of the epoch that the published number is of. With n runs of ours of
deviation s, and p published ones whose deviation nobody gives (so s is taken for it), the 95 % interval is

    d +- t(n - 1) * s * sqrt(1/n + 1/p)

with Student's t; where a deviation is published it is Welch's, with both. Where p is not known it is taken as 1, the
most cautious choice. Where the epoch is not known, the interval covers those of both readings, last and best.

    reproduced       the whole interval lies within half a point of zero
    not reproduced   the whole interval lies beyond it, on one side
    cannot tell      else, and with a single run

Not told, the number of runs that would tell is the least n > ours for which the same interval, with d and s as they are
now, is decided. None would where the published number alone is noisier than the distance of d from half a point allows,
or where its epoch is unknown and the two readings disagree.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distill.tables.published.content import Cell, EpochRule
from distill.tables.statistics import NO_CHANCE, Summary, half_width, summarize

MARGIN = 0.5  # percentage points
MOST_RUNS = 1000  # more would be no advice

Word = Literal["reproduced", "not reproduced", "cannot tell"]
READINGS: Mapping[EpochRule, tuple[str, ...]] = {
    "last": ("last",),
    "best on test": ("best",),
    "unknown": ("last", "best"),
}


@dataclass(frozen=True)
class Sample:
    """Our values in percent, by seed or by teacher; `best` is None where a run did not record its best epoch."""

    last: Mapping[Any, float]
    best: Mapping[Any, float] | None


@dataclass(frozen=True)
class Verdict:
    """The word, the interval of ours - published (None where there is none), and what would tell.

    `runs` is the number of runs of ours that would tell; None where the verdict is told, where no number would, and
    where a single run gives no deviation to say. `why` says why nothing can be told, empty otherwise.
    """

    word: Word
    difference: float | None
    low: float | None
    high: float | None
    runs: int | None = None
    why: str = ""


def judge(ours: Sample, cell: Cell, *, published_runs: int | None) -> Verdict | None:
    """The verdict on a cell, None where nothing is published.

    `published_runs` stands for the p above: the cell's own, or 1 where our unit is a teacher and the cell has one.
    """
    if cell.value is None:
        return None
    readings = _readings(ours, cell)
    if readings is None:
        return Verdict("cannot tell", None, None, None, why="no best epoch was recorded")
    differences = [reading.mean - cell.value for reading in readings]
    difference = differences[0] if len(differences) == 1 else None
    n, deviations = readings[0].n, [reading.deviation for reading in readings]
    if n == 1:
        return Verdict("cannot tell", difference, None, None, why="one run has no deviation")
    known = [deviation for deviation in deviations if deviation is not None and deviation >= NO_CHANCE]
    if len(known) < len(deviations):
        return Verdict("cannot tell", difference, None, None, why="equal seeds measure no chance")

    def intervals(runs: int) -> list[tuple[float, float]]:
        halves = [_half(runs, deviation, cell, published_runs or 1) for deviation in known]
        return [(d - half, d + half) for d, half in zip(differences, halves, strict=True)]

    low, high = _hull(intervals(n))
    word = _word(low, high)
    if word != "cannot tell":
        return Verdict(word, difference, low, high)
    runs = _least(lambda runs: _word(*_hull(intervals(runs))) != word, n, shrinks=cell.deviation is None)
    return Verdict(word, difference, low, high, runs, "" if runs else _never(intervals(MOST_RUNS)))


def _least(tells: Callable[[int], bool], n: int, *, shrinks: bool) -> int | None:
    """The least number of runs above `n` that tells, None where none up to MOST_RUNS does.

    Welch's interval may grow with our runs, since its degrees of freedom fall to those of the published ones; every
    other one only shrinks, so that halving finds the number.
    """
    if not shrinks:
        return next((runs for runs in range(n + 1, MOST_RUNS + 1) if tells(runs)), None)
    return bisect_left(range(MOST_RUNS + 1), True, lo=n + 1, key=tells) if tells(MOST_RUNS) else None


def _never(intervals: Sequence[tuple[float, float]]) -> str:
    """Why no number of runs tells, of the intervals that so many as good as endless ones give."""
    if all(_word(low, high) != "cannot tell" for low, high in intervals):
        return "no number of runs would, last and best epoch disagree"
    noise = max((high - low) / 2 for low, high in intervals)
    return f"no number of runs would, published noise is ±{noise:.2f}"


def _hull(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _readings(ours: Sample, cell: Cell) -> list[Summary] | None:
    found = [getattr(ours, reading) for reading in READINGS[cell.epochs]]
    return None if any(values is None for values in found) else [summarize(list(values.values())) for values in found]


def _half(n: int, deviation: float, cell: Cell, p: int) -> float:
    if cell.deviation is None:
        return half_width(error=deviation * math.sqrt(1 / n + 1 / p), degrees=n - 1)
    a, b = deviation**2 / n, cell.deviation**2 / p
    of_theirs = b**2 / (p - 1) if p > 1 else 0.0
    return half_width(error=math.sqrt(a + b), degrees=(a + b) ** 2 / (a**2 / (n - 1) + of_theirs))


def _word(low: float, high: float) -> Word:
    if low >= -MARGIN and high <= MARGIN:
        return "reproduced"
    return "not reproduced" if low > MARGIN or high < -MARGIN else "cannot tell"
