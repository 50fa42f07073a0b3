"""Whether our runs reproduce a published number, with the noise of both sides.

d = ours - published. Both are last-epoch or both best-epoch accuracies, whichever the paper reports. With n runs of
ours of standard deviation s, and p published runs whose own is not published (so s stands for it), the 95 % interval is

    d +- t(n - 1) * s * sqrt(1/n + 1/p)

with Student's t; where a deviation is published, it is Welch's interval with both. An unknown p is taken as 1, the most
cautious choice. If it is unknown whether the paper reports the last or the best epoch, the interval covers both cases.

    reproduced       the whole interval lies within half a point of zero
    not reproduced   the whole interval lies beyond half a point, on one side
    undecided        otherwise, and with a single run

If undecided: the smallest n above ours with which the same interval would decide, for d and s as they are now. No n is
given if the uncertainty of the published number alone is too large for any n to decide, or if its epoch is unknown and
last and best epoch lead to different verdicts.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.tables.published import Cell, EpochRule
from distill.tables.statistics import NO_VARIANCE, half_width, summarize

MARGIN = 0.5  # percentage points
MOST_RUNS = 1000  # more are not practical

Word = Literal["reproduced", "not reproduced", "undecided"]
READINGS: Mapping[EpochRule, tuple[str, ...]] = {
    "last": ("last",),
    "best on test": ("best",),
    "unknown": ("last", "best"),
}


@dataclass(frozen=True)
class Verdict:
    """The word and the interval of ours - published, None where there is none.

    `runs` is the number of runs of ours that would decide, None where the verdict is decided or no number would decide.
    `why` says why no number can be given, empty otherwise.
    """

    word: Word
    difference: float | None
    low: float | None
    high: float | None
    runs: int | None = None
    why: str = ""


def judge(
    last: Sequence[float], best: Sequence[float] | None, cell: Cell, *, published_runs: int | None
) -> Verdict | None:
    """The verdict of our values in percent on a cell, None where nothing is published.

    `last` and `best` have a value for each seed, or each teacher; `best` is None where a run did not record its best
    epoch. `published_runs` is the p above: the cell's own, or 1 where our unit is a teacher and the cell has one.
    """
    if cell.value is None:
        return None
    values = {"last": last, "best": best}
    readings = [summarize(found) for rule in READINGS[cell.epochs] if (found := values[rule]) is not None]
    if len(readings) < len(READINGS[cell.epochs]):
        return Verdict("undecided", None, None, None, why="no best epoch was recorded")
    differences = [reading.mean - cell.value for reading in readings]
    difference = differences[0] if len(differences) == 1 else None
    n = readings[0].n
    if n == 1:
        return Verdict("undecided", difference, None, None, why="one run has no standard deviation")
    deviations = [reading.deviation or 0.0 for reading in readings]
    if min(deviations) < NO_VARIANCE:
        return Verdict("undecided", difference, None, None, why="all seeds scored identically, variance unknown")

    def intervals(runs: int) -> list[tuple[float, float]]:
        halves = [_half(runs, deviation, cell, published_runs or 1) for deviation in deviations]
        return [(d - half, d + half) for d, half in zip(differences, halves, strict=True)]

    low, high = _hull(intervals(n))
    word = _word(low, high)
    if word != "undecided":
        return Verdict(word, difference, low, high)
    runs = _least(lambda runs: _word(*_hull(intervals(runs))) != word, n, shrinks=cell.deviation is None)
    return Verdict(word, difference, low, high, runs, "" if runs else _never(intervals(MOST_RUNS)))


def _least(decides: Callable[[int], bool], n: int, *, shrinks: bool) -> int | None:
    """The smallest number of runs above `n` that decides, None where none up to MOST_RUNS does.

    Welch's interval may grow with our runs, since its degrees of freedom fall to those of the published runs; any other
    interval only shrinks, so that bisection finds the number.
    """
    if not shrinks:
        return next((runs for runs in range(n + 1, MOST_RUNS + 1) if decides(runs)), None)
    return bisect_left(range(MOST_RUNS + 1), True, lo=n + 1, key=decides) if decides(MOST_RUNS) else None


def _never(intervals: Sequence[tuple[float, float]]) -> str:
    """Why no number of runs decides, from the intervals at MOST_RUNS."""
    if all(_word(low, high) != "undecided" for low, high in intervals):
        return "no number of runs decides, last and best epoch disagree"
    noise = max((high - low) / 2 for low, high in intervals)
    return f"no number of runs decides, published noise is ±{noise:.2f}"


def _hull(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in intervals), max(high for _, high in intervals)


def _half(n: int, deviation: float, cell: Cell, p: int) -> float:
    if cell.deviation is None:
        return half_width(error=deviation * math.sqrt(1 / n + 1 / p), degrees=n - 1)
    a, b = deviation**2 / n, cell.deviation**2 / p
    of_theirs = b**2 / (p - 1) if p > 1 else 0.0
    return half_width(error=math.sqrt(a + b), degrees=(a + b) ** 2 / (a**2 / (n - 1) + of_theirs))


def _word(low: float, high: float) -> Word:
    if low >= -MARGIN and high <= MARGIN:
        return "reproduced"
    return "not reproduced" if low > MARGIN or high < -MARGIN else "undecided"
