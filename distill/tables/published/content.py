"""What a published table says: its rows (methods), its columns (pairs of networks), and a cell for each of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

EpochRule = Literal["last", "best on test", "unknown"]


@dataclass(frozen=True)
class Row:
    """A method as the table lists it; `preset` is our loss, None where a cell's column says it or we have none."""

    key: str
    label: str
    preset: str | None
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A pair of networks, or another thing that the table varies.

    `teacher` and `student` are our presets, None where we have no such network; accuracies are published ones, in
    percent. `teacher_overrides` of `distill train` train the teacher as the run that this column's cells ask for
    (with `seed` in place of `teacher.seed`). `learning_rate` is that of the student, for the reader: the experiment
    sets it.
    """

    key: str
    label: str
    experiment: str | None
    teacher: str | None
    student: str | None
    teacher_accuracy: float | None
    student_accuracy: float | None
    learning_rate: float | None
    teacher_overrides: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One published number and how to train ours.

    value        accuracy in percent, None where nothing is published; `top5` where the table gives it too
    epochs       which epoch the number is of
    runs         of how many runs it is the mean, None where nobody says
    deviation    over those runs, None where it is not published (it never is in this field's tables)
    temperature, weights  that the published number was made with, as far as they are known
    overrides    of `distill train`, without `seed`; empty where we cannot train it, and then `untrainable` says why
    """

    row: str
    column: str
    value: float | None
    top5: float | None
    epochs: EpochRule
    runs: int | None
    deviation: float | None
    temperature: float | None
    weights: Mapping[str, float]
    overrides: tuple[str, ...]
    untrainable: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Delta:
    """A row of differences that the table prints: `row` minus `against`, in percentage points, by column."""

    row: str
    against: str
    points: Mapping[str, float]


@dataclass(frozen=True)
class PublishedTable:
    """A table: cells stand by (row, column), in the order of rows within each column.

    A cell is compared with the one in row `baseline_row` of its column, or in column `baseline_column` of its row.
    """

    name: str
    title: str
    source: str
    dataset: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Cell]
    baseline_row: str | None
    baseline_column: str | None
    deltas: tuple[Delta, ...]
    notes: tuple[str, ...]

    def row(self, key: str) -> Row:
        """The row of that key. Raises KeyError."""
        return {row.key: row for row in self.rows}[key]

    def column(self, key: str) -> Column:
        """The column of that key. Raises KeyError."""
        return {column.key: column for column in self.columns}[key]

    def baseline_of(self, cell: Cell) -> Cell | None:
        """The cell that `cell` is compared with, None where it is that one itself or the table names none."""
        key = (self.baseline_row or cell.row, self.baseline_column or cell.column)
        return None if key == (cell.row, cell.column) else self.cells.get(key)

    def only(self, *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> "PublishedTable":
        """The table with these rows and columns alone (none given: all), in its own order. Raises KeyError."""
        kept = tuple(row for row in self.rows if not rows or row.key in rows)
        across = tuple(column for column in self.columns if not columns or column.key in columns)
        for asked, there in ((rows, self.rows), (columns, self.columns)):
            if missing := set(asked) - {each.key for each in there}:
                raise KeyError(min(missing))
        cells = {(row.key, column.key): self.cells[row.key, column.key] for column in across for row in kept}
        return replace(self, rows=kept, columns=across, cells=cells)
