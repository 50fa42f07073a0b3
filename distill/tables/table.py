"""A comparison table: named, ordered, compared rows and the lines around them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord
from distill.tables.comparison import DEFAULT_BASELINE, Compared, compare, unseen
from distill.tables.grouping import Row, group
from distill.tables.naming import Named, dataset, name_rows, student
from distill.tables.reading import Finished, once, read
from distill.tables.teachers import OverTeachers, over_teachers
from distill.tables.tuning import Tuning, apart
from distill.tables.values import natural_key

HIDDEN = ("failed", "unfinished", "running", "damaged")


@dataclass(frozen=True)
class Line:
    """One row of the table with its name and its comparison."""

    named: Named
    compared: Compared

    @property
    def row(self) -> Row:
        """The runs of the line."""
        return self.named.row


@dataclass(frozen=True)
class Table:
    """The lines in their order and what they are compared with: None where no row has a baseline.

    `unseen` are baselines that are no lines themselves; `hidden` counts the runs in no line, by status; `tunings` holds
    what was tried for the lines on held-out images.
    """

    lines: tuple[Line, ...]
    baseline: str | None
    unseen: tuple[Named, ...]
    hidden: dict[str, int]
    tunings: tuple[Tuning, ...]

    @cached_property
    def over(self) -> list[tuple[Named, OverTeachers]]:
        """The lines that differ in nothing but their teacher's training, taken together, by the first one's name."""
        names = {id(line.row): line.named for line in self.lines}
        return [(names[id(each.rows[0])], each) for each in over_teachers(line.row for line in self.lines)]

    @property
    def not_shown(self) -> str:
        """The runs that make no row, counted: `1 failed, 2 unfinished`."""
        return ", ".join(f"{count} {status}" for status, count in self.hidden.items())


class UnknownBaseline(ValueError):
    """No row has the name asked for as baseline; `presets` are those there are."""

    def __init__(self, asked: str, presets: Sequence[str]) -> None:
        super().__init__(f"--baseline {asked!r} names no row: choose from {', '.join(presets)}")


def build(records: Sequence[RunRecord], *, candidates: Sequence[RunRecord], baseline: str | None = None) -> Table:
    """Build the table of the finished runs among `records`.

    Baselines are sought among `candidates`: `records`, and the runs that only a filter on loss or teacher
    left out. Without `baseline`, rows are compared with `ce` where they can be. Raises `UnknownBaseline`.
    """
    runs = {record.path: read(record) for record in candidates}
    rows, tunings = apart(group(once(runs[record.path] for record in records)))
    others = name_rows(group(once(runs.values())))
    if baseline and others and not any(baseline in other.called for other in others):
        raise UnknownBaseline(baseline, sorted({other.row.preset for other in others}, key=natural_key))
    preset = baseline or DEFAULT_BASELINE
    compared = compare(rows, others, preset=preset)
    lines = _ordered([Line(*pair) for pair in zip(name_rows(rows), compared, strict=True)])
    shown = baseline is not None or any(line.compared.difference for line in lines)
    states = Counter(_state(record, runs[record.path]) for record in records)
    return Table(
        lines=tuple(lines),
        baseline=preset if shown else None,
        unseen=tuple(unseen(compared, rows)),
        hidden={state: states[state] for state in HIDDEN if states[state]},
        tunings=tuple(tunings),
    )


def _state(record: RunRecord, run: Finished | None) -> str:
    if record.status == "finished" and run is None:
        return "first stage" if record.names.get("loss", "").endswith(f" {FIRST_STAGE}") else "damaged"
    return record.status


def _ordered(lines: Sequence[Line]) -> list[Line]:
    """By data set, teachers' own rows first, then by student, the baseline first."""
    taught_by = {line.row.teacher.run_id for line in lines if line.row.teacher}
    pupils = {_place(line) for line in lines if not line.row.run_ids & taught_by}

    def position(line: Line) -> tuple[object, ...]:
        return (
            natural_key(dataset(line.row)),
            _place(line) in pupils,
            natural_key(student(line.row)),
            not line.compared.is_baseline,
            natural_key(line.named.method),
            natural_key(line.named.teacher),
        )

    return sorted(lines, key=position)


def _place(line: Line) -> tuple[str, str]:
    return dataset(line.row), student(line.row)
