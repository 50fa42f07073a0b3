"""The words of a cell's figures, for every layout."""

from distill.tables.numbers import (
    accuracy,
    over_teachers_mean,
    over_teachers_spread,
    paired_text,
    points,
    span,
    welch_text,
)
from distill.tables.published.comparison import Entry
from distill.tables.published.content import Cell
from distill.tables.published.measured import Line
from distill.tables.published.verdict import Verdict
from distill.tables.statistics import summarize

NOTHING = "-"


def published(cell: Cell) -> str:
    """`76.62`, or top-1 and top-5."""
    if cell.value is None:
        return NOTHING
    return f"{cell.value:.2f}" if cell.top5 is None else f"{cell.value:.2f}/{cell.top5:.2f}"


def rule(cell: Cell) -> str:
    """Which epoch the published number is of, and of how many runs: `last, 5 runs`."""
    if cell.value is None:
        return NOTHING
    return f"{cell.epochs if cell.epochs != 'unknown' else 'epoch unknown'}, {_count(cell.runs)}"


def _count(runs: int | None) -> str:
    return "runs unknown" if runs is None else f"{runs} run{'s' * (runs != 1)}"


def last(line: Line) -> str:
    """Ours after the last epoch: mean and deviation over seeds, or mean and interval over teachers."""
    return over_teachers_mean(line.over) if line.over else accuracy(line.row.last)


def best(line: Line) -> str:
    """Ours of the best epoch."""
    values = line.sample.best
    if line.over is None:
        return accuracy(line.row.best)
    return NOTHING if values is None else f"{summarize(list(values.values())).mean:.2f}"


def counted(line: Line) -> str:
    """`4 student seeds, 1 teacher`."""
    students = len(line.runs)
    teachers = len(line.over.rows) if line.over else int(line.row.teacher is not None)
    text = f"{students} student seed{'s' * (students != 1)}"
    return f"{text}, {teachers} teacher{'s' * (teachers != 1)}" if teachers else text


def teacher(line: Line, published_accuracy: float | None) -> str:
    """Our teacher's accuracy, with the published teacher's in brackets; over teachers, the deviations."""
    if line.over is not None:
        return over_teachers_spread(line.over)
    if line.row.teacher is None:
        return NOTHING
    ours = line.row.teacher.accuracy
    theirs = "" if published_accuracy is None else f" ({published_accuracy:.2f})"
    return f"{'?' if ours is None else f'{ours:.2f}'}{theirs}"


def apart(line: Line, several: int) -> str:
    """What tells the line from the others of its cell."""
    named = [line.teacher] if several > 1 and (line.over or line.row.teacher) else []
    return ", ".join([*named, *line.words])


def to_published(verdict: Verdict | None) -> str:
    """Ours minus published with its interval; the interval alone where it covers two readings."""
    if verdict is None:
        return NOTHING
    text = "" if verdict.difference is None else points(verdict.difference)
    ends = "" if verdict.low is None or verdict.high is None else span(verdict.low, verdict.high)
    return " ".join(part for part in (text, ends) if part) or NOTHING


def word(line: Line) -> str:
    """The verdict's word alone."""
    return NOTHING if line.verdict is None else line.verdict.word


def verdict(line: Line) -> str:
    """The word, with the number of runs (or teachers) that would tell, or why nothing does."""
    found = line.verdict
    if found is None:
        return NOTHING
    unit = "teachers" if line.over else "runs"
    if found.why:
        return f"{found.word}: {found.why.replace('runs', unit)}"
    return found.word if found.runs is None else f"{found.word}, {found.runs} {unit} would"


def difference(entry: Entry, *, is_baseline: bool) -> str:
    """The difference to the baseline with Welch's interval."""
    if entry.against is None:
        return "baseline" if is_baseline else NOTHING
    return welch_text(entry.against.points, entry.against.welch)


def pairing(entry: Entry) -> str:
    """The interval paired by seed, or over several teachers by teacher."""
    found = entry.against
    if found is None:
        return NOTHING
    counts = {len(entry.line.sample.last), len(found.baseline.sample.last)}
    return paired_text(found.paired, counts=counts, unit="teachers" if entry.line.over else "seeds")


def probability(entry: Entry) -> str:
    """The adjusted p-value of the difference."""
    if entry.against is None or entry.against.holm is None:
        return NOTHING
    return "<0.001" if entry.against.holm < 0.001 else f"{entry.against.holm:.3f}"
