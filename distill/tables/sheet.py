"""Our own table as text cells."""

from collections.abc import Callable
from dataclasses import dataclass

from distill.tables.grouping import Row
from distill.tables.naming import dataset, holdout, precision, recipe, student
from distill.tables.numbers import accuracy, paired_text, welch_text
from distill.tables.remarks import heading, notes
from distill.tables.rendering import TextTable
from distill.tables.table import Line, Table


@dataclass(frozen=True)
class _Column:
    header: str
    cell: Callable[[Line], str]
    numeric: bool = True


def sheet(table: Table, *, everything: bool = False, cost: bool = False) -> TextTable:
    """Lay out a table; with `everything`, what the title would say stands in columns of its own; `cost` adds two."""
    columns = [*_columns(table, everything=everything), *(COST if cost else [])]
    return TextTable(
        title="" if everything else heading(table),
        headers=tuple(column.header for column in columns),
        numeric=tuple(column.numeric for column in columns),
        rows=tuple(tuple(column.cell(line) for column in columns) for line in table.lines),
        notes=tuple(notes(table)),
    )


def _columns(table: Table, *, everything: bool) -> list[_Column]:
    rows = [line.row for line in table.lines]

    def told(fact: Callable[[Row], str], header: str, *, shared: bool = False) -> list[_Column]:
        shown = everything or (not shared and len({fact(row) for row in rows}) > 1)
        return [_Column(header, lambda line: fact(line.row), numeric=False)] if shown else []

    against = f"difference to {table.baseline}"
    differences = [_Column(against, _difference), _Column("paired by seed", _paired)]
    return [
        _Column("method", lambda line: line.named.method, numeric=False),
        *told(dataset, "dataset"),
        _Column("teacher", lambda line: line.named.teacher, numeric=False),
        *told(student, "student"),
        # where these differ the method says so
        *told(recipe, "recipe", shared=True),
        *told(precision, "precision", shared=True),
        *told(_measured_on, "measured on", shared=True),
        _Column("n", lambda line: str(line.row.last.n)),
        _Column("last epoch", lambda line: accuracy(line.row.last)),
        _Column(_selected(table), lambda line: accuracy(line.row.best)),
        *(differences if table.baseline else []),
        _Column("parameters", lambda line: _number(line.row.first.parameters, digits=0)),
        _Column("seconds", lambda line: _number(line.row.seconds, digits=1)),
    ]


COST = [
    _Column("s/epoch", lambda line: _number(line.row.seconds_per_epoch, digits=2)),
    _Column("peak MiB", lambda line: _number(_mebibytes(line.row.peak_memory), digits=0)),
]


def _measured_on(row: Row) -> str:
    return f"holdout {holdout(row)}" if holdout(row) else "test"


def _selected(table: Table) -> str:
    splits = sorted({line.row.first.split for line in table.lines}, reverse=True)
    return f"selected on {' or '.join(splits)}"


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / 2**20


def _number(value: float | None, *, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _difference(line: Line) -> str:
    found = line.compared.difference
    if found is None:
        return "baseline" if line.compared.is_baseline else "-"
    return welch_text(found.points, found.welch)


def _paired(line: Line) -> str:
    found = line.compared.difference
    if found is None:
        return "-"
    return paired_text(found.paired, counts={line.row.last.n, found.baseline.row.last.n})
