"""A comparison table: named, ordered, compared rows and the lines around them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.runs.store import RunRecord
from distill.tables.comparison import DEFAULT_BASELINE, Compared, compare, unseen
from distill.tables.grouping import Row, group
from distill.tables.naming import Named, dataset, holdout, name_rows, precision, recipe, student
from distill.tables.ordering import natural
from distill.tables.reading import Finished, once, read
from distill.tables.replicates import replicate_of

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

    `unseen` are baselines that are no lines themselves; `hidden` counts the runs in no line, by status.
    """

    lines: tuple[Line, ...]
    baseline: str | None
    unseen: tuple[Named, ...]
    hidden: dict[str, int]

    @property
    def not_shown(self) -> str:
        """The runs that make no row, counted: `1 failed, 2 unfinished`."""
        return ", ".join(f"{count} {status}" for status, count in self.hidden.items())


class UnknownBaseline(ValueError):
    """No row has the name asked for as baseline; `presets` are those there are."""

    def __init__(self, asked: str, presets: Sequence[str]) -> None:
        super().__init__(f"--baseline {asked!r} names no row: choose from {', '.join(presets)}")


def build(
    records: Sequence[RunRecord], *, candidates: Sequence[RunRecord], baseline: str | None = None
) -> Table:
    """Build the table of the finished runs among `records`.

    Baselines are sought among `candidates`: `records`, and the runs that only a filter on loss or teacher
    left out. Without `baseline`, rows are compared with `ce` where they can be. Raises `UnknownBaseline`.
    """
    runs = {record.path: read(record) for record in candidates}
    rows = group(once(runs[record.path] for record in records))
    others = name_rows(group(once(runs.values())))
    if baseline and others and not any(baseline in other.called for other in others):
        raise UnknownBaseline(baseline, sorted({other.row.preset for other in others}, key=natural))
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
    )


def _state(record: RunRecord, run: Finished | None) -> str:
    return "damaged" if record.status == "finished" and run is None else record.status


def _ordered(lines: Sequence[Line]) -> list[Line]:
    """By data set, teachers' own rows first, then by student, the baseline first."""
    taught_by = {line.row.teacher.run_id for line in lines if line.row.teacher}
    pupils = {_place(line) for line in lines if not line.row.run_ids & taught_by}

    def position(line: Line) -> tuple[object, ...]:
        return (
            natural(dataset(line.row)),
            _place(line) in pupils,
            natural(student(line.row)),
            not line.compared.is_baseline,
            natural(line.named.method),
            natural(line.named.teacher),
        )

    return sorted(lines, key=position)


def _place(line: Line) -> tuple[str, str]:
    return dataset(line.row), student(line.row)


def heading(table: Table) -> str:
    """What all rows share, said once above them."""
    rows = [line.row for line in table.lines]
    facts = [("dataset", dataset), ("student", student), ("recipe", recipe)]
    shared = [f"{word} {name(rows[0])}" for word, name in facts if len({name(row) for row in rows}) == 1]
    if len({precision(row) for row in rows}) == 1:
        shared.append(precision(rows[0]))
    return ", ".join([*shared, f"accuracy in percent on {_images(rows)}"])


def _images(rows: Iterable[Row]) -> str:
    held_out = {holdout(row) for row in rows}
    if held_out == {0}:
        return "the test set"
    if len(held_out) == 1:
        return f"{held_out.pop()} held-out training images"
    return "the test set, or on held-out training images where a row says so"


def notes(table: Table) -> list[str]:
    """The lines under the table."""
    lines = []
    if any(each.compared.difference and each.compared.difference.welch for each in table.lines):
        lines.append(
            "± is the deviation over seeds; [ ] is the 95 % interval of the difference in percentage points:"
            " Welch's, and paired by seed with the correlation r"
        )
    for other in table.unseen:
        mean, n = other.row.last.mean, other.row.last.n
        lines.append(
            f"baseline {other.method} on {student(other.row)} is not among the rows: {mean:.2f}, n={n}"
        )
    lines += dict.fromkeys(
        f"no difference where baseline {table.baseline} could be any of several rows:"
        f" {', '.join(other.method for other in each.compared.ambiguous)}; name one in full"
        for each in table.lines
        if each.compared.ambiguous and table.baseline
    )
    equal = [each for line in table.lines if (each := replicate_of(line.row))]
    lines += dict.fromkeys(f"{each.preset} is a replicate of {each.of}: {each.reason}" for each in equal)
    if table.hidden:
        lines.append(f"{table.not_shown} not shown")
    return lines
