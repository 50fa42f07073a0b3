"""The table as the paper prints it: methods down, pairs across, ours under the published number.

Four short rows a method keep the columns narrow enough for a page of seven pairs; intervals and differences stand in
the long sheet, one cell a row.
"""

from collections.abc import Callable

from distill.tables.published import told
from distill.tables.published.comparison import Entry
from distill.tables.published.content import Cell, Column, Row
from distill.tables.published.measured import Line
from distill.tables.published.remarks import notes
from distill.tables.published.view import View
from distill.tables.rendering import TextTable


def sheet(view: View) -> TextTable:
    """The shown table with our cells."""
    table = view.shown
    rows = _teachers(view)
    for row in table.rows:
        rows += _method(view, row)
    return TextTable(
        title=table.title,
        headers=("method", "", *(column.label for column in table.columns)),
        numeric=(False, False, *(True for _ in table.columns)),
        rows=tuple(rows),
        notes=tuple(notes(view)),
        naming=2,
    )


def _teachers(view: View) -> list[tuple[str, ...]]:
    columns = view.shown.columns
    theirs = [told.NOTHING if each.teacher_accuracy is None else f"{each.teacher_accuracy:.2f}" for each in columns]
    ours = [_teacher(view, column) for column in columns]
    known = [row for row in (("published", *theirs), ("ours", *ours)) if set(row[1:]) != {told.NOTHING}]
    return [("" if number else "Teacher", *row) for number, row in enumerate(known)]


def _teacher(view: View, column: Column) -> str:
    """The accuracies of our teachers of a column, each once."""
    cells = [cell for cell in view.compared.measured.cells() if cell.column == column.key]
    rows = [row for cell in cells for entry in view.entries(cell) for row in entry.line.rows]
    found = {row.teacher.weights: row.teacher.accuracy for row in rows if row.teacher}
    return "; ".join(f"{accuracy:.2f}" for accuracy in found.values() if accuracy is not None) or told.NOTHING


def _method(view: View, row: Row) -> list[tuple[str, ...]]:
    cells = [view.shown.cells[row.key, column.key] for column in view.shown.columns]
    rules = {told.rule(cell) for cell in cells if cell.value is not None}
    shared = ", " + rules.pop() if len(rules) == 1 else ""
    rows = []
    if any(cell.value is not None for cell in cells):
        rows.append(("", f"published{shared}", *(_published(cell, told_once=bool(shared)) for cell in cells)))
    if any(view.entries(cell) for cell in cells) or not rows:
        rows += [
            ("", "ours, last epoch (n)", *(_ours(view, cell, _last) for cell in cells)),
            ("", "ours, selected on test", *(_ours(view, cell, lambda e: told.best(e.line)) for cell in cells)),
        ]
        verdicts = [_ours(view, cell, lambda entry: told.word(entry.line)) for cell in cells]
        rows += [("", "verdict", *verdicts)] if set(verdicts) != {told.NOTHING} else []
    first, *rest = rows
    return [(row.label, *first[1:]), *rest]


def _published(cell: Cell, *, told_once: bool) -> str:
    text = told.published(cell)
    return text if told_once or cell.value is None else f"{text} ({told.rule(cell)})"


def _ours(view: View, cell: Cell, text: Callable[[Entry], str]) -> str:
    """The row over several teachers where there is one, else every line of the cell."""
    entries = view.entries(cell)
    shown = [entry for entry in entries if entry.line.over] or list(entries)
    parts = []
    for entry in shown:
        words = told.apart(entry.line, len(entries))
        parts.append(f"{text(entry)} [{words}]" if words and len(shown) > 1 else text(entry))
    return "; ".join(parts) or told.NOTHING


def _last(entry: Entry) -> str:
    line: Line = entry.line
    text = told.last(line)
    return text if text.endswith("(n=1)") else f"{text} ({_units(line)})"


def _units(line: Line) -> str:
    return f"{len(line.over.rows)} teachers" if line.over else str(line.row.last.n)
