"""Statistics over a few seeds: mean, standard deviation, and 95 % intervals of a difference."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

CONFIDENCE = 0.95
NO_VARIANCE = 1e-9  # percentage points: a smaller standard error is rounding


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1 below the root) of n values; none where n = 1."""

    n: int
    mean: float
    deviation: float | None

    def __str__(self) -> str:
        """`93.50 ± 0.56`, or `93.50 (n=1)` for a single run."""
        return f"{self.mean:.2f} " + ("(n=1)" if self.deviation is None else f"± {self.deviation:.2f}")


@dataclass(frozen=True)
class Interval:
    """A difference of means with its 95 % confidence interval on `degrees` of freedom.

    `p` is the two-sided probability of a difference at least as large if the true difference is zero.
    """

    difference: float
    low: float
    high: float
    degrees: float
    p: float

    def __str__(self) -> str:
        """The ends: `[-0.14, +4.14]`."""
        return span(self.low, self.high)


@dataclass(frozen=True)
class Paired:
    """The interval over `pairs` common seeds, and the correlation of both rows over them (from 3 pairs on)."""

    interval: Interval
    pairs: int
    correlation: float | None


@dataclass(frozen=True)
class Blocks:
    """The standard deviation of a run without the effects of its row and its seed, pooled over rows with common seeds.

    The randomised block design (Fisher 1935): a run is the mean of its row, plus what its seed changes in all rows
    alike, plus chance, which is taken to be equally large in all rows. It has (rows - 1) * (seeds - 1) degrees of
    freedom, so two seeds give a usable interval, where a single row has one degree.
    """

    deviation: float
    rows: int
    keys: frozenset[Any]  # the common seeds

    @property
    def n(self) -> int:
        """The number of common seeds."""
        return len(self.keys)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the deviation."""
        return (self.rows - 1) * (self.n - 1)

    @property
    def half(self) -> float:
        """Half of the 95 % interval of a row's mean, for comparisons within the seeds (Loftus and Masson 1994)."""
        return half_width(error=self.deviation / math.sqrt(self.n), degrees=self.degrees)

    @property
    def least(self) -> float:
        """Half of the 95 % interval of the difference of two rows, without correction for several comparisons."""
        return math.sqrt(2) * self.half


def points(value: float) -> str:
    """A difference with its sign: `+1.25`."""
    return f"{round(value, 2) + 0.0:+.2f}"  # adding 0.0 turns -0.0 into 0.0


def span(low: float, high: float) -> str:
    """The ends of an interval: `[-0.14, +4.14]`."""
    return f"[{points(low)}, {points(high)}]"


def summarize(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation. Raises ValueError for no values."""
    if not values:
        raise ValueError("a summary needs at least 1 value, got 0: leave rows without runs out")
    mean = math.fsum(values) / len(values)
    # statistics.stdev computes in fractions, which takes a second for a table of 10,000 runs
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Summary(len(values), mean, math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None)


def welch(values: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """Interval of mean(values) - mean(baseline) for unequal variances (Welch 1947).

    None where a side has n = 1, and where neither side varies: equal scores give no estimate of the variance, and an
    interval of no width would claim certainty.
    """
    ours, theirs = summarize(values), summarize(baseline)
    if ours.deviation is None or theirs.deviation is None:
        return None
    a, b = ours.deviation**2 / ours.n, theirs.deviation**2 / theirs.n
    error = math.sqrt(a + b)
    if error < NO_VARIANCE:
        return None
    # Welch-Satterthwaite equation for the degrees of freedom
    degrees = (a + b) ** 2 / (a**2 / (ours.n - 1) + b**2 / (theirs.n - 1))
    return _interval(ours.mean - theirs.mean, error=error, degrees=degrees)


def paired(values: Mapping[Any, float], baseline: Mapping[Any, float]) -> Paired | None:
    """Interval of the mean difference over the keys both have: seeds, or teachers.

    None with fewer than two common keys, and where all differences are equal. The correlation needs three pairs, since
    two points always lie on a line, and values that vary on both sides.
    """
    keys = sorted(values.keys() & baseline.keys())
    if len(keys) < 2:
        return None
    ours, theirs = [values[key] for key in keys], [baseline[key] for key in keys]
    differences = summarize([a - b for a, b in zip(ours, theirs, strict=True)])
    error = (differences.deviation or 0.0) / math.sqrt(differences.n)
    if error < NO_VARIANCE:
        return None
    interval = _interval(differences.mean, error=error, degrees=float(differences.n - 1))
    return Paired(interval, len(keys), correlation(ours, theirs))


def blocks(rows: Sequence[Mapping[Any, float]]) -> Blocks | None:
    """The standard deviation pooled over rows that have seeds in common; a row maps seeds to values.

    Of the seeds that a row has, or two rows share, those count that leave the most degrees of freedom. None where no
    two rows share two seeds, and where the values differ by row and seed alone.
    """
    seeds = {frozenset(row) for row in rows}
    sharing = {
        shared: [row for row in rows if shared <= row.keys()] for shared in {a & b for a in seeds for b in seeds}
    }
    keys, chosen = max(
        sharing.items(),
        key=lambda item: ((len(item[0]) - 1) * (len(item[1]) - 1), sorted(item[0], key=str)),
        default=(frozenset[Any](), []),
    )
    if len(keys) < 2 or len(chosen) < 2:
        return None
    of_rows = [math.fsum(row[key] for key in keys) / len(keys) for row in chosen]
    of_seeds = {key: math.fsum(row[key] for row in chosen) / len(chosen) for key in keys}
    mean = math.fsum(of_rows) / len(of_rows)
    squares = math.fsum(
        (row[key] - of_row - of_seeds[key] + mean) ** 2
        for row, of_row in zip(chosen, of_rows, strict=True)
        for key in keys
    )
    found = Blocks(math.sqrt(squares / ((len(chosen) - 1) * (len(keys) - 1))), len(chosen), keys)
    return found if found.deviation >= NO_VARIANCE else None


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's r of paired values, None with fewer than three pairs or where a side does not vary."""
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return statistics.correlation(first, second)


def _interval(difference: float, *, error: float, degrees: float) -> Interval:
    from scipy.special import stdtr  # Student's t distribution; importing scipy.stats would take a second

    half = half_width(error=error, degrees=degrees)
    p = 2 * float(stdtr(degrees, -abs(difference) / error))
    return Interval(difference, difference - half, difference + half, degrees=degrees, p=p)


def half_width(*, error: float, degrees: float) -> float:
    """Half of a 95 % interval: the quantile of Student's t times the standard error."""
    return _quantile(degrees) * error


@cache
def _quantile(degrees: float) -> float:
    """Of Student's t distribution, for the upper end of an interval."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, in their order, adjusted for testing all of them (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than the one before it, nor greater than 1.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[position]))
        adjusted[position] = least
    return adjusted
