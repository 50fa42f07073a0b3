"""What is said under a published table: how to read it, what its source says of the cells shown, what is missing."""

from collections import defaultdict
from collections.abc import Iterable

from distill.tables.published.content import Cell
from distill.tables.published.verdict import MARGIN
from distill.tables.published.view import View


def notes(view: View) -> list[str]:
    """The lines under the table."""
    shown = view.shown
    return [f"source: {shown.source}", *shown.notes, *_reading(view), *_rows(view), *_cells(view), *_state(view)]


def _reading(view: View) -> list[str]:
    """How our figures are to be read, where there are any."""
    entries = [entry for cell in view.shown.cells.values() for entry in view.entries(cell)]
    if not entries:
        return []
    lines = ["± is the deviation over student seeds; last epoch counts, the best one was selected on the test set"]
    if any(entry.line.over for entry in entries):
        lines.append(
            "over m teachers: the mean of the teachers' means with its 95 % interval over these m; between is their "
            "deviation, within that of student seeds of one teacher; the published cell is one teacher's"
        )
    if any(entry.line.verdict for entry in entries):
        lines += _verdicts(entry.line.cell for entry in entries)
    return lines + _differences(view)


def _verdicts(cells: Iterable[Cell]) -> list[str]:
    judged = [cell for cell in cells if cell.value is not None]
    lines = [
        f"verdict: the 95 % interval of ours - published, of the epoch that the published number is of, lies wholly "
        f"within ±{MARGIN} points (reproduced), wholly beyond (not reproduced), or neither (cannot tell); it holds the "
        "noise of the published runs too, with our deviation where none is published; how many runs would tell is said "
        "for our mean and deviation as they are now"
    ]
    if any(cell.runs is None for cell in judged):
        lines.append(
            "where the number of published runs is unknown, it is taken as 1: the published noise is then 1.96 of our "
            "deviations, and no runs of ours make it smaller"
        )
    if any(cell.epochs == "unknown" for cell in judged):
        lines.append("where the published epoch is unknown, the interval covers both readings, last and best")
    return lines


def _differences(view: View) -> list[str]:
    if not view.compared.family:
        return []
    return [
        f"difference to {view.baseline}: last epoch, Welch's 95 % interval; paired: by seed (over several teachers by "
        f"teacher), with the correlation r; p (Holm): of Welch's test, adjusted for all {view.compared.family} "
        "differences of the table"
    ]


def _rows(view: View) -> list[str]:
    return [f"{row.label}: {note}" for row in view.shown.rows for note in row.notes]


def _cells(view: View) -> list[str]:
    """Notes of single cells, each once with the cells it holds for."""
    where: dict[str, list[str]] = defaultdict(list)
    for cell in view.shown.cells.values():
        for note in cell.notes:
            where[note].append(f"{view.shown.row(cell.row).label}, {view.shown.column(cell.column).label}")
    columns = [f"{column.label}: {note}" for column in view.shown.columns for note in column.notes]
    return [*columns, *(f"{'; '.join(cells)}: {note}" for note, cells in where.items())]


def _state(view: View) -> list[str]:
    """What is not there, and what is there but fills nothing."""
    cells = list(view.shown.cells.values())
    missing = [cell for cell in cells if view.missing(cell)]
    reasons: dict[str, int] = defaultdict(int)
    for cell in cells:
        if cell.untrainable:
            reasons[cell.untrainable] += 1
    lines = [f"{count} cell{'s' * (count != 1)} not trainable: {reason}" for reason, count in reasons.items()]
    if missing:
        lines.append(
            f"{len(missing)} of {len(cells)} cells lack some of the {len(view.seeds)} seeds: `{view.fill}` trains them"
        )
    elsewhere = view.compared.measured.elsewhere
    return lines + [
        f"{count} run{'s' * (count != 1)} of these methods and students in no cell, with {difference}"
        for difference, count in elsewhere.items()
    ]
