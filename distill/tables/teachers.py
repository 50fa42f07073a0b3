"""Rows that differ in nothing but the training of their teacher, taken together: the row "over m teachers"."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.statistics import Summary, half_width, summarize

Teacher = str  # the digest of a teacher's weights


@dataclass(frozen=True)
class OverTeachers:
    """Rows of one configuration, one for each of m teachers that differ in their seed alone.

    The unit is the teacher: its mean over student seeds counts once, however many seeds it has.
    """

    rows: tuple[Row, ...]

    @property
    def last(self) -> dict[Teacher, float]:
        """The mean accuracy after the last epoch of each teacher's students, in percent."""
        return {_weights(row): row.last.mean for row in self.rows}

    @property
    def best(self) -> dict[Teacher, float] | None:
        """The mean accuracy of the best epochs, None unless every run recorded one."""
        means = {_weights(row): row.best.mean for row in self.rows if row.best is not None}
        return means if len(means) == len(self.rows) else None

    @property
    def means(self) -> Summary:
        """The mean of the teachers' means, with the deviation between teachers."""
        return summarize(list(self.last.values()))

    @property
    def within(self) -> float | None:
        """The deviation over student seeds of one teacher, pooled over teachers; None with one seed each."""
        parts = [(row.last.n - 1, row.last.deviation) for row in self.rows]
        degrees = sum(n for n, _ in parts)
        squares = sum(n * deviation**2 for n, deviation in parts if deviation is not None)
        return math.sqrt(squares / degrees) if degrees else None

    @property
    def half(self) -> float:
        """Half of the 95 % interval of the mean: Student's t of m - 1 degrees over the m means."""
        means = self.means
        return half_width(error=(means.deviation or 0.0) / math.sqrt(means.n), degrees=means.n - 1)


def over_teachers(rows: Iterable[Row]) -> list[OverTeachers]:
    """The rows that differ in their teacher's weights alone, put together where there are two or more.

    Teachers given as finished runs stay apart: nothing says that they were trained alike.
    """
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.teacher is not None and row.teacher.weights is not None:
            alike[_key(row)].append(row)
    return [OverTeachers(tuple(each)) for each in alike.values() if len({_weights(row) for row in each}) > 1]


def _key(row: Row) -> str:
    run = row.first
    identity = {key: value for key, value in run.identity.items() if key not in ("seed", "teacher")}
    teacher = {key: value for key, value in (run.config.get("teacher") or {}).items() if key not in ("seed", "source")}
    source = row.teacher.source if row.teacher else None
    return json.dumps([identity, teacher, source, run.precision, run.split], sort_keys=True)


def _weights(row: Row) -> Teacher:
    return str(row.teacher.weights if row.teacher else None)
