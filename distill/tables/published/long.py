"""A cell, or a line of it, a row: what a terminal can hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill.tables.published import told
from distill.tables.published.commands import spell
from distill.tables.published.comparison import Entry
from distill.tables.published.content import Cell
from distill.tables.published.remarks import notes
from distill.tables.published.view import View
from distill.tables.rendering import TextTable


@dataclass(frozen=True)
class Shown:
    """A row of the sheet: a cell with one of its lines, or with none."""

    cell: Cell
    entry: Entry | None
    several: int


@dataclass(frozen=True)
class _Column:
    header: str
    text: Callable[[Shown], str]
    numeric: bool = True


def sheet(view: View, *, everything: bool = False) -> TextTable:
    """Every cell of the shown table, and how it is filled; with `everything`, keys in place of labels."""
    rows = [row for cell in view.shown.cells.values() for row in _rows(view, cell)]
    figures = [*_figures(view), _Column("to fill", lambda row: _once(view, row), numeric=False)]
    shown = figures if everything else _telling(figures, rows)
    return _sheet(view.shown.title, rows, [*_names(view, keys=everything), *shown], tuple(notes(view)))


def details(view: View) -> TextTable | None:
    """The cells with runs of ours alone, for a page on which the wide sheet stands already; None without any.

    Where that has a single pair in its head, the pair is not named again.
    """
    rows = [row for cell in view.shown.cells.values() for row in _rows(view, cell) if row.entry]
    pair, method = _names(view)
    names = [method] if len(view.shown.columns) == 1 else [pair, method]
    columns = [*names, *_telling(_figures(view), rows)]
    return _sheet("Our cells", rows, columns, (), naming=len(names)) if rows else None


def commands(view: View) -> TextTable | None:
    """The commands for what is missing, None where nothing is."""
    rows = [Shown(cell, None, 0) for cell in view.shown.cells.values() if view.missing(cell)]
    columns = [
        *_names(view),
        _Column("seeds", lambda row: ",".join(map(str, view.missing(row.cell)))),
        _Column("time of one", lambda row: told_time(view, row.cell)),
        _Column("command", lambda row: view.command(row.cell), numeric=False),
    ]
    return _sheet("Missing cells", rows, columns, ()) if rows else None


def told_time(view: View, cell: Cell) -> str:
    """How long one run of the cell is likely to take."""
    return told.NOTHING if (seconds := view.seconds(cell)) is None else f"about {spell(seconds)}"


def _rows(view: View, cell: Cell) -> list[Shown]:
    entries = view.entries(cell)
    return [Shown(cell, entry, len(entries)) for entry in entries] or [Shown(cell, None, 0)]


def _once(view: View, row: Shown) -> str:
    """What fills the cell, on the first of its lines alone."""
    first = next(iter(view.entries(row.cell)), None)
    return view.to_fill(row.cell) if row.entry is first else told.NOTHING


def _names(view: View, *, keys: bool = False) -> list[_Column]:
    table = view.shown

    def method(row: Shown) -> str:
        apart = told.apart(row.entry.line, row.several) if row.entry else ""
        label = row.cell.row if keys else table.row(row.cell.row).label
        return f"{label} ({apart})" if apart else label

    return [
        _Column("pair", lambda row: row.cell.column if keys else table.column(row.cell.column).label, numeric=False),
        _Column("method", method, numeric=False),
    ]


def _figures(view: View) -> list[_Column]:
    table = view.shown

    def ours(text: Callable[[Entry], str]) -> Callable[[Shown], str]:
        return lambda row: text(row.entry) if row.entry else told.NOTHING

    def teacher(row: Shown) -> str:
        accuracy = table.column(row.cell.column).teacher_accuracy
        return told.teacher(row.entry.line, accuracy) if row.entry else told.NOTHING

    def difference(row: Shown) -> str:
        return told.difference(row.entry, is_baseline=view.is_baseline(row.cell)) if row.entry else told.NOTHING

    return [
        _Column("published", lambda row: told.published(row.cell)),
        _Column("of", lambda row: told.rule(row.cell), numeric=False),
        _Column("ours, last epoch", ours(lambda entry: told.last(entry.line))),
        _Column("selected on test", ours(lambda entry: told.best(entry.line))),
        _Column("n", ours(lambda entry: told.counted(entry.line)), numeric=False),
        _Column("teacher (published)" if any(each.teacher_accuracy for each in table.columns) else "teacher", teacher),
        _Column("ours - published", ours(lambda entry: told.to_published(entry.line.verdict))),
        _Column("verdict", ours(lambda entry: told.verdict(entry.line)), numeric=False),
        *([_Column(f"difference to {view.baseline}", difference)] if view.baseline else []),
        *(
            [_Column("paired", ours(told.pairing)), _Column("p (Holm)", ours(told.probability))]
            if view.baseline
            else []
        ),
    ]


def _telling(columns: Sequence[_Column], rows: Sequence[Shown]) -> list[_Column]:
    """The columns that say something of a row."""
    return [column for column in columns if any(column.text(row) != told.NOTHING for row in rows)]


def _sheet(
    title: str, rows: Sequence[Shown], columns: Sequence[_Column], below: tuple[str, ...], *, naming: int = 2
) -> TextTable:
    return TextTable(
        title=title,
        headers=tuple(column.header for column in columns),
        numeric=tuple(column.numeric for column in columns),
        rows=tuple(tuple(column.text(row) for column in columns) for row in rows),
        notes=below,
        naming=naming,
    )
