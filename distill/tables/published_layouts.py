"""A published table with our runs as text.

A terminal and a pipe get one row a cell; a page gets the paper's layout first, then details and commands.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill.tables.cells import MeasuredTable
from distill.tables.published import Cell, TableColumn, TableRow
from distill.tables.rendering import Column, TextTable, text_table
from distill.tables.rows import Row
from distill.tables.statistics import blocks, points, span
from distill.tables.verdict import MARGIN

NOTHING = "-"
BEST_EPOCH = "best epoch (chosen on the test set)"


@dataclass(frozen=True)
class _Line:
    """A line of a table: a cell with one of its `several` rows of ours, or with none."""

    cell: Cell
    row: Row | None
    several: int = 0


def cell_table(measured: MeasuredTable, *, everything: bool = False) -> TextTable:
    """One row for each cell, or for each of its rows; with `everything`, all columns, and keys in place of labels."""
    lines = [line for cell in measured.shown.cells.values() for line in _lines(measured, cell)]
    to_fill = Column[_Line]("to fill", lambda line: _to_fill(measured, line), numeric=False)
    figures = [*_figures(measured), to_fill]
    columns = [*_names(measured, keys=everything), *(figures if everything else _filled(figures, lines))]
    return text_table(measured.shown.title, columns, lines, notes(measured), naming=2)


def details(measured: MeasuredTable) -> TextTable | None:
    """The cells with runs of ours, for a page that starts with `paper_layout`; None without any.

    A single pair is not named again: it stands in the head of the layout above.
    """
    lines = [line for cell in measured.shown.cells.values() for line in _lines(measured, cell) if line.row]
    names = _names(measured)[1 if len(measured.shown.columns) == 1 else 0 :]
    columns = [*names, *_filled(_figures(measured), lines)]
    return text_table("Our cells", columns, lines, (), naming=len(names)) if lines else None


def commands(measured: MeasuredTable) -> TextTable | None:
    """The commands that train what is missing, None where nothing is."""
    lines = [_Line(cell, None) for cell in measured.shown.cells.values() if measured.missing(cell)]
    columns = [
        *_names(measured),
        Column[_Line]("seeds", lambda line: ",".join(map(str, measured.missing(line.cell)))),
        Column[_Line]("time of one", lambda line: _time(measured.seconds(line.cell)) or NOTHING),
        Column[_Line]("command", lambda line: measured.command(line.cell), numeric=False),
    ]
    return text_table("Missing cells", columns, lines, (), naming=2) if lines else None


def paper_layout(measured: MeasuredTable) -> TextTable:
    """The table as the paper prints it: methods down, pairs across, ours under the published number.

    Four short rows a method keep the columns narrow enough for a page of seven pairs; intervals and differences stand
    in the details, one cell a row.
    """
    shown = measured.shown
    rows = _teacher_rows(measured)
    for row in shown.rows:
        rows += _method_rows(measured, row)
    return TextTable(
        title=shown.title,
        headers=("method", "", *(column.label for column in shown.columns)),
        numeric=(False, False, *(True for _ in shown.columns)),
        rows=tuple(rows),
        notes=tuple(notes(measured)),
        naming=2,
    )


def distinction(row: Row, several: int) -> str:
    """What distinguishes a row from the others of its cell, of which there are `several`."""
    named = [row.teacher_name] if several > 1 and (row.members or row.teacher) else []
    return ", ".join([*named, *row.qualifiers])


def _lines(measured: MeasuredTable, cell: Cell) -> list[_Line]:
    rows = measured.of(cell)
    return [_Line(cell, row, len(rows)) for row in rows] or [_Line(cell, None)]


def _filled(columns: Sequence[Column[_Line]], lines: Sequence[_Line]) -> list[Column[_Line]]:
    """The columns that are not empty."""
    return [column for column in columns if any(column.text(line) != NOTHING for line in lines)]


def _names(measured: MeasuredTable, *, keys: bool = False) -> list[Column[_Line]]:
    shown = measured.shown

    def method(line: _Line) -> str:
        label = line.cell.row if keys else shown.row(line.cell.row).label
        distinct = distinction(line.row, line.several) if line.row else ""
        return f"{label} ({distinct})" if distinct else label

    def pair(line: _Line) -> str:
        return line.cell.column if keys else shown.column(line.cell.column).label

    return [Column("pair", pair, numeric=False), Column("method", method, numeric=False)]


def _figures(measured: MeasuredTable) -> list[Column[_Line]]:
    published_teachers = {column.key: column.teacher_accuracy for column in measured.shown.columns}

    def ours(header: str, text: Callable[[Row], str], *, numeric: bool = True) -> Column[_Line]:
        return Column(header, lambda line: text(line.row) if line.row else NOTHING, numeric=numeric)

    def teacher(line: _Line) -> str:
        return _teacher(line.row, published_teachers[line.cell.column]) if line.row else NOTHING

    def difference(line: _Line) -> str:
        if line.row and not line.row.difference and measured.is_baseline(line.cell):
            return "baseline"
        return line.row.difference_text if line.row else NOTHING

    against_baseline = [
        Column(f"difference from {measured.baseline}", difference),
        ours("paired", lambda row: row.paired_text),
        ours("p (Holm)", _p_value),
    ]
    return [
        Column("published", lambda line: _published(line.cell)),
        Column("published rule", lambda line: _rule(line.cell), numeric=False),
        ours("ours, last epoch", _last),
        ours(BEST_EPOCH, _best),
        ours("n", _counts, numeric=False),
        Column("teacher (published)" if any(published_teachers.values()) else "teacher", teacher),
        ours("ours - published", _to_published),
        ours("verdict", _verdict, numeric=False),
        *(against_baseline if measured.baseline else []),
    ]


def _to_fill(measured: MeasuredTable, line: _Line) -> str:
    """The command that fills the cell, or why there is none, on the first line of the cell alone."""
    cell, first = line.cell, next(iter(measured.of(line.cell)), None)
    if line.row is not first:
        return NOTHING
    if cell.untrainable:
        return f"not trainable: {cell.untrainable}"
    if not (missing := measured.missing(cell)):
        return NOTHING
    time = _time(measured.seconds(cell))
    each = " each" if time and len(missing) > 1 else ""
    return f"{measured.command(cell)}  # {time or 'time unknown'}{each}"


def _time(seconds: float | None) -> str:
    """`about 40 s`, `about 12 min`, `about 3.4 h` or `about 2.1 d`; empty where it is unknown."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"about {seconds:.0f} s"
    if seconds < 100 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"about {seconds / 86400:.1f} d"


def _published(cell: Cell) -> str:
    """`76.62`, or top-1 and top-5."""
    if cell.value is None:
        return NOTHING
    return f"{cell.value:.2f}" if cell.top5 is None else f"{cell.value:.2f}/{cell.top5:.2f}"


def _rule(cell: Cell) -> str:
    """The epoch of the published number, and the number of runs it is the mean of: `last, 5 runs`."""
    if cell.value is None:
        return NOTHING
    runs = "runs unknown" if cell.runs is None else _count(cell.runs, "run")
    return f"{'epoch unknown' if cell.epochs == 'unknown' else cell.epochs}, {runs}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _last(row: Row) -> str:
    """Ours after the last epoch: mean and deviation over seeds, or mean and interval over teachers."""
    return row.mean_and_interval if row.members else str(row.last)


def _best(row: Row) -> str:
    if row.best is None:
        return NOTHING
    return f"{row.best.mean:.2f}" if row.members else str(row.best)


def _counts(row: Row) -> str:
    """`4 student seeds, 1 teacher`."""
    teachers = len(row.members) or int(row.teacher is not None)
    parts = [_count(len(row.runs), "student seed"), *([_count(teachers, "teacher")] if teachers else [])]
    return ", ".join(parts)


def _teacher(row: Row, published_accuracy: float | None) -> str:
    """Our teacher's accuracy, with the published teacher's in brackets; over teachers, the deviations."""
    if row.members:
        return row.spread
    if row.teacher is None:
        return NOTHING
    ours = "?" if row.teacher.accuracy is None else f"{row.teacher.accuracy:.2f}"
    return ours if published_accuracy is None else f"{ours} ({published_accuracy:.2f})"


def _to_published(row: Row) -> str:
    """Ours minus published with its interval; the interval alone where it covers two readings."""
    found = row.verdict
    if found is None:
        return NOTHING
    text = "" if found.difference is None else points(found.difference)
    ends = "" if found.low is None or found.high is None else span(found.low, found.high)
    return " ".join(filter(None, (text, ends))) or NOTHING


def _verdict(row: Row) -> str:
    """The verdict; if undecided, with the number of runs (or teachers) needed, or why there is none."""
    found, unit = row.verdict, "teachers" if row.members else "runs"
    if found is None:
        return NOTHING
    if found.why:
        return f"{found.word}: {found.why.replace('runs', unit)}"
    return found.word if found.runs is None else f"{found.word}, {found.runs} {unit} needed"


def _p_value(row: Row) -> str:
    if row.difference is None or row.difference.holm is None:
        return NOTHING
    return "<0.001" if row.difference.holm < 0.001 else f"{row.difference.holm:.3f}"


def _teacher_rows(measured: MeasuredTable) -> list[tuple[str, ...]]:
    columns = measured.shown.columns
    theirs = [NOTHING if each.teacher_accuracy is None else f"{each.teacher_accuracy:.2f}" for each in columns]
    ours = [_our_teachers(measured, column) for column in columns]
    known = [row for row in (("published", *theirs), ("ours", *ours)) if set(row[1:]) != {NOTHING}]
    return [("" if number else "Teacher", *row) for number, row in enumerate(known)]


def _our_teachers(measured: MeasuredTable, column: TableColumn) -> str:
    """The accuracies of our teachers of a column, each once."""
    rows = [row for cell in measured.table.cells.values() if cell.column == column.key for row in measured.of(cell)]
    found = {row.teacher.weights: row.teacher.accuracy for row in rows if row.teacher}
    return "; ".join(f"{accuracy:.2f}" for accuracy in found.values() if accuracy is not None) or NOTHING


def _method_rows(measured: MeasuredTable, row: TableRow) -> list[tuple[str, ...]]:
    cells = [measured.shown.cells[row.key, column.key] for column in measured.shown.columns]
    rules = {_rule(cell) for cell in cells if cell.value is not None}
    shared = f", {rules.pop()}" if len(rules) == 1 else ""

    def published(cell: Cell) -> str:
        return _published(cell) if shared or cell.value is None else f"{_published(cell)} ({_rule(cell)})"

    def ours(text: Callable[[Row], str]) -> list[str]:
        return [_all_rows(measured, cell, text) for cell in cells]

    rows = []
    if any(cell.value is not None for cell in cells):
        rows.append((f"published{shared}", *map(published, cells)))
    if any(measured.of(cell) for cell in cells) or not rows:
        verdicts = ours(lambda row: row.verdict.word if row.verdict else NOTHING)
        rows += [("ours, last epoch (n)", *ours(_last_and_count)), (f"ours, {BEST_EPOCH}", *ours(_best))]
        rows += [("verdict", *verdicts)] if set(verdicts) != {NOTHING} else []
    return [("" if number else row.label, *texts) for number, texts in enumerate(rows)]


def _all_rows(measured: MeasuredTable, cell: Cell, text: Callable[[Row], str]) -> str:
    """The row over several teachers where there is one, else every row of the cell."""
    rows = measured.of(cell)
    shown = [row for row in rows if row.members] or list(rows)
    parts = []
    for row in shown:
        distinct = distinction(row, len(rows)) if len(shown) > 1 else ""
        parts.append(f"{text(row)} [{distinct}]" if distinct else text(row))
    return "; ".join(parts) or NOTHING


def _last_and_count(row: Row) -> str:
    if row.members:
        return f"{_last(row)} ({len(row.members)} teachers)"
    return str(row.last) if row.last.n == 1 else f"{row.last} ({row.last.n})"


def notes(measured: MeasuredTable) -> list[str]:
    """The lines under the table: how to read it, what its source states about the cells shown, and what is missing."""
    shown = measured.shown
    rows = [row for cell in shown.cells.values() for row in measured.of(cell)]
    of_rows = [f"{row.label}: {note}" for row in shown.rows for note in row.notes]
    of_columns = [f"{column.label}: {note}" for column in shown.columns for note in column.notes]
    cells: dict[str, list[str]] = defaultdict(list)
    for cell in shown.cells.values():
        for note in cell.notes:
            cells[note].append(f"{shown.row(cell.row).label}, {shown.column(cell.column).label}")
    of_cells = [f"{'; '.join(names)}: {note}" for note, names in cells.items()]
    sources = [f"source: {shown.source}", *shown.notes]
    return [*sources, *_how_to_read(measured, rows), *of_rows, *of_columns, *of_cells, *_missing(measured)]


def _how_to_read(measured: MeasuredTable, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    lines = [
        "± is the standard deviation over student seeds; the last epoch counts, the best one was chosen on the test set"
    ]
    if any(row.members for row in rows):
        lines.append(
            "over m teachers: the mean of the teachers' means with its 95 % interval over these m; between is their "
            "deviation, within that of student seeds of one teacher; the published cell is one teacher's"
        )
    judged = [row.cell for row in rows if row.verdict and row.cell]
    if judged:
        lines.append(
            "verdict: the 95 % interval of ours - published, comparing last with last and best with best, lies wholly "
            f"within ±{MARGIN} points (reproduced), wholly beyond (not reproduced), or neither (undecided, with the "
            "number of runs needed for our mean and deviation as they are now); it includes the noise of the published "
            "runs, with our deviation where none is published"
        )
    if any(cell.runs is None for cell in judged):
        lines.append(
            "where the number of published runs is unknown, it is taken as 1: the published noise is then 1.96 of our "
            "deviations, and no runs of ours make it smaller"
        )
    if any(cell.epochs == "unknown" for cell in judged):
        lines.append("where the published epoch is unknown, the interval covers both readings, last and best")
    if measured.tests:
        compared = f"all {measured.tests} differences" if measured.tests > 1 else "the only difference"
        lines.append(
            f"difference from {measured.baseline}: last epoch, Welch's 95 % interval; paired: by seed (over several "
            "teachers by teacher), with the correlation r; p (Holm): of Welch's test, adjusted for "
            f"{compared} of the table"
        )
    return [*lines, *_unresolved(measured)]


def _unresolved(measured: MeasuredTable) -> list[str]:
    """Of the cells that are compared, where they have one teacher: the difference that their seeds do not resolve."""
    columns = {column.key: column.label for column in measured.shown.columns}
    compared = [({key}, label) for key, label in columns.items()]
    if measured.shown.baseline_column:  # columns are compared with each other
        compared = [(set(columns), "all cells")]
    parts = []
    for keys, label in compared:
        cells = [cell for cell in measured.table.cells.values() if cell.column in keys]
        rows = {row.run_ids: row for cell in cells for row in measured.of(cell)}  # cells of equal runs count once
        if len({row.teacher.weights for row in rows.values() if row.teacher}) > 1:
            continue  # methods are compared over teachers
        if found := blocks([row.by_unit for row in rows.values()]):
            parts.append(
                f"{found.least:.2f} points for {label} (standard deviation {found.deviation:.2f}, pooled over "
                f"{found.rows} rows of {found.n} seeds, {_count(found.degrees, 'degree')} of freedom)"
            )
    if not parts:
        return []
    of = "assuming one standard deviation for all rows, a difference between two is not resolved (95 %, paired by seed)"
    return [f"{of} below about {'; '.join(parts)}"]


def _missing(measured: MeasuredTable) -> list[str]:
    """What is missing, and which runs fill no cell."""
    cells = list(measured.shown.cells.values())
    reasons = Counter(cell.untrainable for cell in cells if cell.untrainable)
    lines = [f"{_count(count, 'cell')} not trainable: {reason}" for reason, count in reasons.items()]
    if missing := sum(bool(measured.missing(cell)) for cell in cells):
        of = f"{missing} of {len(cells)} cells lack some of the {len(measured.seeds)} seeds"
        lines.append(f"{of}: `{measured.fill_command}` trains them")
    return lines + [
        f"{_count(count, 'run')} of these methods and students in no cell, with {difference}"
        for difference, count in measured.elsewhere.items()
    ]
