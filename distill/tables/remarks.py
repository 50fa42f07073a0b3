"""What is said above and below a table."""

from collections import defaultdict
from collections.abc import Iterable

from distill.tables.grouping import Row
from distill.tables.naming import dataset, holdout, precision, recipe, student
from distill.tables.numbers import accuracy, over_teachers_text
from distill.tables.replicates import replicate_of
from distill.tables.table import Table
from distill.tables.tuning import tuning_notes

_LEGEND = (
    "± is the deviation over seeds; [ ] is the 95 % interval of the difference in percentage points: Welch's,"
    " and paired by seed with the correlation r"
)


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
    found = [line.compared.difference for line in table.lines if line.compared.difference]
    legend = [_LEGEND] if any(each.welch or each.paired for each in found) else []
    hidden = [f"{table.not_shown} not shown"] if table.hidden else []
    said = [*_over_teachers(table), *_baselines(table), *_sources(table), *_replicates(table)]
    return [*legend, *said, *tuning_notes(table.tunings), *hidden]


def _over_teachers(table: Table) -> list[str]:
    lines = [
        f"{named.method} on {student(named.row)} over {each.means.n} teachers: {over_teachers_text(each)}"
        for named, each in table.over
    ]
    told = "the mean of the teachers' means with its 95 % interval, and the deviations between and within teachers"
    return [f"over m teachers: {told}", *lines] if lines else []


def _baselines(table: Table) -> list[str]:
    left_out = [
        f"baseline {each.method} on {student(each.row)}, filtered out: {accuracy(each.row.last)}"
        for each in table.unseen
    ]
    rivals = [line.compared.ambiguous for line in table.lines if line.compared.ambiguous and table.baseline]
    ambiguous = [
        f"no difference where baseline {table.baseline} could be any of several rows:"
        f" {', '.join(f'{each.method} with teacher {each.teacher}' for each in several)}"
        for several in rivals
    ]
    return [*left_out, *dict.fromkeys(ambiguous)]


def _sources(table: Table) -> list[str]:
    """Rows that are compared with each other, but asked their teachers in different forms."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in table.lines:
        if line.row.teacher and line.row.teacher.source:
            found[student(line.row), line.row.context].add(line.row.teacher.source)
    mixed = {name for (name, _), sources in found.items() if len(sources) > 1}
    return [
        f"the rows of {name} mix sources: some asked their teacher live, some read a table of its logits, exact"
        " to its tolerance only; teacher.source=live or table under another runs_dir makes them alike"
        for name in sorted(mixed)
    ]


def _replicates(table: Table) -> list[str]:
    equal = [each for line in table.lines if (each := replicate_of(line.row))]
    return list(dict.fromkeys(f"{each.preset} is a replicate of {each.of}: {each.reason}" for each in equal))
