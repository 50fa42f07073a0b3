"""Accuracies and differences as people read them: percent and points, two decimals."""

from distill.tables.statistics import Interval, Paired, Summary
from distill.tables.teachers import OverTeachers


def accuracy(summary: Summary | None) -> str:
    """`93.50 ± 0.56` percent, `93.50 (n=1)` for a single run."""
    if summary is None:
        return "-"
    spread = "(n=1)" if summary.deviation is None else f"± {summary.deviation:.2f}"
    return f"{summary.mean:.2f} {spread}"


def points(value: float) -> str:
    """A difference with its sign: `+1.25`."""
    return f"{round(value, 2) + 0.0:+.2f}"  # adding 0.0 turns -0.0 into 0.0


def span(low: float, high: float) -> str:
    """The ends of an interval: `[-0.14, +4.14]`."""
    return f"[{points(low)}, {points(high)}]"


def welch_text(difference: float, interval: Interval | None) -> str:
    """A difference, with its interval where there is one."""
    return points(difference) if interval is None else f"{points(difference)} {span(interval.low, interval.high)}"


def paired_text(found: Paired | None, *, counts: set[int], unit: str = "seeds") -> str:
    """The paired interval and r; where not all of `counts` values are paired, also the difference of those that are."""
    if found is None:
        return "-"
    interval = found.interval
    text = span(interval.low, interval.high)
    if {found.pairs} != counts:  # then it is another difference than Welch's
        text = f"{points(interval.difference)} {text} {found.pairs} {unit}"
    return text if found.correlation is None else f"{text} r={found.correlation:+.2f}"


def over_teachers_mean(over: OverTeachers) -> str:
    """The mean over teachers with its interval: `76.41 [75.90, 76.92]`."""
    mean, half = over.means.mean, over.half
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def over_teachers_spread(over: OverTeachers) -> str:
    """The deviations: `between ± 0.21, within ± 0.15`; the latter only where a teacher has several students."""
    within = "" if over.within is None else f", within ± {over.within:.2f}"
    return f"between ± {over.means.deviation or 0.0:.2f}{within}"


def over_teachers_text(over: OverTeachers) -> str:
    """Mean, interval and deviations."""
    return f"{over_teachers_mean(over)}, {over_teachers_spread(over)}"
