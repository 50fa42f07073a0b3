"""The table of our own runs: rows named, ordered and compared, the notes around them, and the table as data."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.runs.store import RunRecord
from distill.tables.comparison import DEFAULT_BASELINE, compare_with, interval_records, unseen_baselines
from distill.tables.data import of_records, run_records, settings
from distill.tables.naming import name_rows
from distill.tables.presets import Values, is_named, tuned_values, varying, without
from distill.tables.rendering import Column, Content, TextTable, text_table
from distill.tables.rows import FinishedRun, Row, distinct, group, is_first_stage, over_teachers, read_finished
from distill.tables.values import TOP5_CLASSES, fields, flatten, natural_key, number, preset_name

HIDDEN = ("failed", "unfinished", "running", "damaged")
LEGEND = (
    "± is the standard deviation over seeds; [ ] is the 95 % interval of the difference in percentage points: Welch's,"
    " and paired by seed with the correlation r"
)

SIDE_BY_SIDE = "* seconds of runs that were trained side by side are shares of their common time"


@dataclass(frozen=True)
class Tuning:
    """The configurations of one method that were tried on `images` held-out images, the best first.

    They differ in `keys` of their configurations, as `loss.temperature`. `context` is what they share with other
    methods: data set, student, teacher, recipe, precision.
    """

    method: str
    context: tuple[str, ...]
    images: int
    tried: tuple[Row, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The rows in their order, and the preset they are compared with: None where no row has a baseline.

    `unseen` are baselines that are not rows themselves; `hidden` counts the runs that are in no row, by status;
    `tunings` holds what was tried for the rows on held-out images.
    """

    rows: tuple[Row, ...]
    baseline: str | None
    unseen: tuple[Row, ...]
    hidden: dict[str, int]
    tunings: tuple[Tuning, ...]

    @cached_property
    def over(self) -> list[Row]:
        """Rows over several teachers, by the name of their first member."""
        return over_teachers(self.rows)

    @property
    def not_shown(self) -> str:
        """The runs that are in no row, counted: `1 failed, 2 unfinished`."""
        return ", ".join(f"{count} {status}" for status, count in self.hidden.items())

    def content(self, *, cost: bool = False) -> Content:
        """The table in every format; `cost` adds two columns to the text."""
        return Content(
            table=lambda everything: _text(self, everything=everything, cost=cost),
            # a paper compares accuracies: seconds depend on the machine and on what else it did
            pages=lambda form: [_text(self, cost=cost, clock=cost or form != "latex")],
            records=lambda: [
                {**flatten(record), **values}
                for record, values in zip(_records(self), settings(self.rows), strict=True)
            ],
            document=lambda: document(self),
            notes=lambda: notes(self),
        )

    def of_runs(self) -> Content:
        """One record a run, those on held-out images included, in every format."""
        rows = [*self.rows, *(row for each in self.tunings for row in each.tried)]
        return of_records(run_records(rows), [f"{self.not_shown} not shown"] if self.hidden else [])


class UnknownBaseline(ValueError):
    """No row has the name chosen as baseline; `presets` are the possible ones."""

    def __init__(self, name: str, presets: Sequence[str]) -> None:
        super().__init__(f"--baseline {name!r} names no row: choose from {', '.join(presets)}")


def build(records: Sequence[RunRecord], *, candidates: Sequence[RunRecord], baseline: str | None = None) -> Table:
    """Build the table of the finished runs among `records`.

    Baselines are found among `candidates`: `records`, and the runs that only a filter on loss or teacher left out.
    Without `baseline`, rows are compared with `ce` where they can be. Raises `UnknownBaseline`.
    """
    preset = baseline or DEFAULT_BASELINE
    runs = {record.path: read_finished(record) for record in records}
    rows, tunings = _without_tunings(group(distinct(runs.values())))
    named = name_rows(rows)
    # of a large store, only runs that may be the baseline are read; the whole name of a row begins with its preset
    others = [
        record
        for record in candidates
        if record.path not in runs and (" " in preset or is_named(record.names, record.config, [preset]))
    ]
    every = [*runs.values(), *map(read_finished, others)]
    possible = name_rows(group(distinct(every))) if others or tunings else named
    if baseline and possible and not any(baseline in row.names for row in possible):
        presets = {row.preset for row in group(distinct(map(read_finished, candidates)))}
        raise UnknownBaseline(baseline, sorted(presets, key=natural_key))
    compared = _ordered(compare_with(preset, named, possible))
    states = Counter(_state(record, runs[record.path]) for record in records)
    return Table(
        rows=tuple(compared),
        baseline=preset if baseline is not None or any(row.difference for row in compared) else None,
        unseen=tuple(unseen_baselines(compared)),
        hidden={state: states[state] for state in HIDDEN if states[state]},
        tunings=tuple(tunings),
    )


def _state(record: RunRecord, run: FinishedRun | None) -> str:
    if record.status == "finished" and run is None:
        return "first stage" if is_first_stage(record) else "damaged"
    return record.status


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """By data set, the rows that trained teachers first, then by student, the baseline first."""
    teachers = {row.teacher.run_id for row in rows if row.teacher}
    students = {(row.dataset, row.student) for row in rows if row.run_ids.isdisjoint(teachers)}

    def position(row: Row) -> tuple[object, ...]:
        return (
            natural_key(row.dataset),
            (row.dataset, row.student) in students,
            natural_key(row.student),
            not row.is_baseline,
            natural_key(row.method),
            natural_key(row.teacher_name),
        )

    return sorted(rows, key=position)


def _without_tunings(rows: Sequence[Row]) -> tuple[list[Row], list[Tuning]]:
    """The rows of a table, and what was tried for them.

    Rows measured on held-out images are a tuning where there are several of one method (loss preset, student, teacher,
    recipe and precision, whatever values were changed in them) that also has a row measured on the test set. A row that
    was trained under another preset belongs to the method too if it differs only in values that the method varies.
    """

    tested: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    held: dict[tuple[tuple[str, ...], int], list[Row]] = defaultdict(list)
    trials: dict[tuple[tuple[str, ...], int, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.holdout:
            held[_context(row), row.holdout].append(row)
            trials[_context(row), row.holdout, row.preset].append(row)
        else:
            tested[_context(row)].append(row)
    tunings: list[Tuning] = []
    gone: set[int] = set()
    for (where, images, preset), tried in trials.items():
        settings = [tuned_values(row.first.config) for row in tried]
        keys = varying(settings)
        fixed = without(settings[0], keys)

        def belongs(row: Row, preset: str = preset, keys: Sequence[str] = keys, fixed: Values = fixed) -> bool:
            return row.preset == preset or without(tuned_values(row.first.config), keys) == fixed

        if len(tried) > 1 and any(map(belongs, tested[where])):
            cells = [row for row in held[where, images] if belongs(row)]
            gone |= set(map(id, cells))
            best = tuple(sorted(name_rows(cells), key=lambda row: -row.last.mean))
            tunings.append(Tuning(preset, where, images, best, keys))
    return [row for row in rows if id(row) not in gone], tunings


def _context(row: Row) -> tuple[str, ...]:
    """Data set, student, teacher, recipe and precision."""
    teacher = preset_name(row.teacher.name) if row.teacher else "none"
    return row.dataset, row.student, teacher, preset_name(row.recipe), row.precision


def heading(table: Table) -> str:
    """What all rows share, stated once above them."""
    first = table.rows[0]
    shared = [
        f"{word} {getattr(first, word)}"
        for word in ("dataset", "student", "recipe")
        if len({getattr(row, word) for row in table.rows}) == 1
    ]
    if len({row.precision for row in table.rows}) == 1:
        shared.append(first.precision)
    return ", ".join([*shared, f"accuracy in percent on {_images(table)}"])


def _images(table: Table) -> str:
    sizes = {row.holdout for row in table.rows}
    if sizes == {0}:
        return "the test set"
    if len(sizes) == 1:
        return f"{sizes.pop()} held-out training images"
    return "the test set, or on held-out training images where a row states it"


def notes(table: Table) -> list[str]:
    """The lines under the table."""
    differences = [row.difference for row in table.rows if row.difference]
    return [
        *([LEGEND] if any(each.welch or each.paired for each in differences) else []),
        *_over_teachers_notes(table),
        *_baseline_notes(table),
        *_source_notes(table),
        *_replicate_notes(table),
        *_tuning_notes(table),
        *([SIDE_BY_SIDE] if any(row.side_by_side for row in table.rows) else []),
        *([f"{table.not_shown} not shown"] if table.hidden else []),
    ]


def _over_teachers_notes(table: Table) -> list[str]:
    legend = "the mean of the teachers' means with its 95 % interval; standard deviations between and within teachers"
    lines = [
        f"{row.method} on {row.student} {row.teacher_name}: {row.mean_and_interval}, {row.spread}" for row in table.over
    ]
    return [f"over m teachers: {legend}", *lines] if lines else []


def _baseline_notes(table: Table) -> list[str]:
    left_out = [f"baseline {row.method} on {row.student}, filtered out: {row.last}" for row in table.unseen]
    rivals = {id(row.rivals): row.rivals for row in table.rows if row.rivals and table.baseline}
    ambiguous = [
        f"no difference where baseline {table.baseline} could be any of several rows:"
        f" {', '.join(f'{row.method} with teacher {row.teacher_name}' for row in several)}"
        for several in rivals.values()
    ]
    return [*left_out, *dict.fromkeys(ambiguous)]


def _source_notes(table: Table) -> list[str]:
    """Rows that are compared with each other although some read their teacher's logits from a table."""
    sources: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in table.rows:
        if row.teacher and row.teacher.source:
            sources[row.student, row.context].add(row.teacher.source)
    mixed = {student for (student, _), found in sources.items() if len(found) > 1}
    return [
        f"the rows of {name} mix sources: in some the teacher ran on every batch, others read a table of its logits, "
        "exact to its tolerance only; teacher.source=live or table under another runs_dir makes them alike"
        for name in sorted(mixed)
    ]


def _replicate_notes(table: Table) -> list[str]:
    equal = [(row.preset, row.replicate) for row in table.rows if row.replicate]
    return list(dict.fromkeys(f"{preset} is a replicate of {each.of}: {each.reason}" for preset, each in equal))


def _tuning_notes(table: Table) -> list[str]:
    """One line a method with all that was tried, and one where methods had different budgets, or none."""
    tunings = table.tunings
    varied = [n for n in (0, 2, 3, 4) if len({each.context[n] for each in tunings}) > 1]

    def name(context: tuple[str, ...]) -> str:
        return ", ".join([context[1], *(context[n] for n in varied)])

    lines = [
        f"{each.method} on {name(each.context)}: tuned over {len(each.tried)} configurations ({', '.join(each.keys)}) "
        f"on {each.images:,} held-out images: " + ", ".join(f"{row.method} {row.last.mean:.2f}" for row in each.tried)
        for each in tunings
    ]
    budgets: dict[tuple[tuple[str, ...], int], dict[str, int]] = defaultdict(dict)
    for each in tunings:
        budgets[each.context, each.images][each.method] = len(each.tried)
    for context in dict.fromkeys(each.context for each in tunings):
        tuned = {each.method for each in tunings if each.context == context}
        alone = (*context[:2], "none", *context[3:])
        others = [row.preset for row in table.rows if _context(row) in (context, alone) and row.preset not in tuned]
        lines += [f"not tuned on {name(context)}: {', '.join(dict.fromkeys(others))}"] if others else []
    return lines + [
        f"different tuning budgets on {name(context)}: "
        + ", ".join(f"{method} {count}" for method, count in counts.items())
        for (context, _), counts in budgets.items()
        if len(set(counts.values())) > 1
    ]


def _text(table: Table, *, everything: bool = False, cost: bool = False, clock: bool = True) -> TextTable:
    """The table as text cells; with `everything`, what the title would state has columns of its own."""
    rows = table.rows

    def fact(header: str, text: Callable[[Row], str], *, where_varied: bool = False) -> list[Column[Row]]:
        shown = everything or (where_varied and len({text(row) for row in rows}) > 1)
        return [Column(header, text, numeric=False)] if shown else []

    splits = {"test": "the test set", "holdout": "held-out images"}
    chosen_on = " or ".join(text for split, text in splits.items() if any(row.first.split == split for row in rows))
    difference = Column[Row](f"difference from {table.baseline}", lambda row: row.difference_text)
    averaged = Column[Row]("averaged weights, last epoch", lambda row: str(row.averaged or "-"))
    top5 = Column[Row]("top-5, last epoch", lambda row: str(row.top5 or "-"))
    many_classes = any(row.top5 and (row.first.classes or 0) > TOP5_CLASSES for row in rows)
    columns = [
        Column[Row]("method", lambda row: row.method, numeric=False),
        *fact("dataset", lambda row: row.dataset, where_varied=True),
        Column[Row]("teacher", lambda row: row.teacher_name, numeric=False),
        *fact("student", lambda row: row.student, where_varied=True),
        # where these differ, the method's name states them
        *fact("recipe", lambda row: row.recipe),
        *fact("precision", lambda row: row.precision),
        *fact("measured on", lambda row: f"holdout {row.holdout}" if row.holdout else "test"),
        Column[Row]("n", lambda row: str(row.last.n)),
        Column[Row]("last epoch", lambda row: str(row.last)),
        *([top5] if many_classes else []),
        Column[Row](f"best epoch (chosen on {chosen_on})", lambda row: str(row.best or "-")),
        *([averaged] if any(row.averaged for row in rows) else []),
        *([difference, Column[Row]("paired by seed", lambda row: row.paired_text)] if table.baseline else []),
        Column[Row]("parameters", lambda row: number(row.first.parameters, digits=0)),
        *([Column[Row]("seconds", _seconds)] if clock else []),
    ]
    if cost:
        columns.append(Column("s/epoch", lambda row: number(row.seconds_per_epoch, digits=2)))
        columns.append(Column("peak MiB", lambda row: number(row.peak_memory and row.peak_memory / 2**20, digits=0)))
    return text_table("" if everything else heading(table), columns, rows, notes(table))


def _seconds(row: Row) -> str:
    return number(row.seconds, digits=1) + "*" * row.side_by_side


def document(table: Table) -> dict[str, Any]:
    """The table for JSON: rows with run ids, seeds and the value of every seed, and what is not shown."""
    return {
        "baseline": table.baseline,
        "rows": [
            {**record, "settings": values} for record, values in zip(_records(table), settings(table.rows), strict=True)
        ],
        "over_teachers": [
            {
                "method": row.method,
                "student": row.student,
                "teachers": row.by_unit,
                "mean": row.last.mean,
                "between": row.last.deviation,
                "within": row.within,
                "low": None if row.half is None else row.last.mean - row.half,
                "high": None if row.half is None else row.last.mean + row.half,
            }
            for row in table.over
        ],
        "tuned": [_tuning_record(each) for each in table.tunings],
        "not_shown": table.hidden,
        "notes": notes(table),
    }


def _tuning_record(tuning: Tuning) -> dict[str, Any]:
    tried = [
        {"method": row.method, "runs": [run.run_id for run in row.runs], "accuracy": row.last.mean}
        for row in tuning.tried
    ]
    return {
        "method": tuning.method,
        "student": tuning.context[1],
        "holdout": tuning.images,
        "keys": list(tuning.keys),
        "tried": tried,
    }


def _records(table: Table) -> list[dict[str, Any]]:
    """The rows with full precision, all with the same keys; flattened, they are the lines of the CSV."""
    found = [_record(row) for row in table.rows]
    if any(row.averaged for row in table.rows):
        for record, row in zip(found, table.rows, strict=True):
            values = [run.averaged for run in row.runs]
            record["ema"] = fields(row.averaged, "mean", "deviation") | {"values": values}
    if any(row.top5 for row in table.rows):
        for record, row in zip(found, table.rows, strict=True):
            record["top5"] = fields(row.top5, "mean", "deviation") | {"values": [run.top5 for run in row.runs]}
    return found


def _record(row: Row) -> dict[str, Any]:
    replicate, teacher = row.replicate, row.teacher
    against_welch, by_pairs = interval_records(row.difference)
    baseline = row.difference.baseline.method if row.difference else None
    return {
        "method": row.method,
        "loss": row.loss,
        "replicate_of": replicate.of if replicate else None,
        **fields(row, "dataset", "student"),
        "teacher": {
            "name": teacher.name if teacher else "none",
            "run_id": teacher.run_id if teacher else None,
            "weights_sha256": teacher.weights if teacher else None,
            **fields(teacher, "source", "accuracy"),
        },
        **fields(row, "recipe", "precision"),
        "split": row.first.split,
        "holdout": row.holdout,
        "n": row.last.n,
        "seeds": [run.seed for run in row.runs],
        "runs": [run.run_id for run in row.runs],
        "last": fields(row.last, "mean", "deviation") | {"values": [run.last for run in row.runs]},
        "best": fields(row.best, "mean", "deviation") | {"values": [run.best for run in row.runs]},
        "is_baseline": row.is_baseline,
        "difference": {"baseline": baseline, **against_welch, **by_pairs},
        "parameters": row.first.parameters,
        **fields(row, "seconds", "seconds_per_epoch"),
        "peak_memory_bytes": row.peak_memory,
    }
