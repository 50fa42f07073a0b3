"""Finished runs and the rows they form: seeds of one configuration pooled, unlike teachers and precisions apart."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord
from distill.tables.presets import equal_presets
from distill.tables.published import Cell
from distill.tables.statistics import NO_VARIANCE, Interval, Paired, Summary, half_width, points, span, summarize
from distill.tables.values import dataset_name, flatten, preset_name
from distill.tables.verdict import Verdict, judge

T = TypeVar("T")


@dataclass(frozen=True)
class RowTeacher:
    """The frozen teacher of a run: its name and weights, and whether it ran live or a table of its logits was read."""

    name: str
    weights: str | None
    source: str | None
    run_id: str | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The values of a finished run. Accuracies are percent on `split` ("test" or "holdout")."""

    run_id: str
    names: Mapping[str, str]
    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    seed: int
    precision: str
    split: str
    holdout: int
    last: float
    best: float | None
    averaged: float | None  # of the average of the weights after the last epoch, where the recipe has one
    top5: float | None  # among the five likeliest classes after the last epoch, where it was counted
    classes: int | None
    parameters: int | None
    seconds: float | None
    epochs: int | None
    peak_memory: int | None
    side_by_side: int  # how many runs shared the process and its time
    teacher: RowTeacher | None


def read_finished(record: RunRecord) -> FinishedRun | None:
    """A run's values; None where it is not finished, or its files lack something that every table shows.

    None for a first stage too: its classifier is not trained yet, so its accuracy means nothing.
    """
    if record.status != "finished" or record.result is None or is_first_stage(record):
        return None
    try:
        return _values_of(record, record.result)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # edited or half-copied by hand: one such run must not hide the others


def is_first_stage(record: RunRecord) -> bool:
    """Whether the run is the first stage of a method that trains in two."""
    return record.names.get("loss", "").endswith(f" {FIRST_STAGE}")


def distinct(runs: Iterable[FinishedRun | None]) -> list[FinishedRun]:
    """The finished runs, each once: a copied run directory does not count as another seed."""
    return list({run.run_id: run for run in runs if run is not None}.values())


def _values_of(record: RunRecord, result: Mapping[str, Any]) -> FinishedRun:
    identity, best, teacher = record.identity, result.get("best"), result.get("teacher")
    return FinishedRun(
        run_id=record.run_id,
        names=record.names,
        config=record.config,
        identity=identity,
        seed=int(identity["seed"]),
        precision=str(result.get("precision") or identity["precision"]),
        split=str(result["split"]),
        holdout=int(identity["data"].get("holdout") or 0),
        last=_percent(result["last"]["accuracy"]),
        best=_percent(best["accuracy"]) if best else None,
        averaged=_percent(result["last"]["ema"]["accuracy"]) if "ema" in result["last"] else None,
        top5=_percent(result["last"]["top5"]) if "top5" in result["last"] else None,
        classes=result.get("classes"),
        parameters=result.get("parameters"),
        seconds=result.get("seconds") or None,  # an imported run was trained elsewhere
        epochs=result.get("epochs"),
        peak_memory=result.get("peak_memory_bytes"),
        side_by_side=int(result.get("side_by_side") or 1),
        teacher=None
        if teacher is None
        else RowTeacher(
            name=record.names["teacher"],
            weights=teacher.get("weights_sha256"),
            source=teacher.get("source"),
            run_id=teacher.get("run_id"),
            accuracy=teacher.get("accuracy"),
        ),
    )


def _percent(value: Any) -> float:
    """An accuracy. Raises ValueError for anything else; a NaN would spoil the mean of its row."""
    accuracy = float(value)
    if not 0.0 <= accuracy <= 100.0:
        raise ValueError(f"an accuracy lies between 0 and 100, got {value}")
    return accuracy


@dataclass(frozen=True)
class Replicate:
    """A preset that equals the preset `of` mathematically under these settings: only chance separates their rows."""

    of: str
    reason: str
    settings: Mapping[str, float]


_W9_T2 = {"temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0}
_MEAN = "softmax is invariant to the mean of the logits"
_ENTROPY = "the two differ by the teacher's entropy, which has no gradient"

REPLICATES = {
    "ablation/mean_only": Replicate("kd_w9_t2", _MEAN, _W9_T2),
    "ablation/deviation_only": Replicate("zscore_kd", _MEAN, _W9_T2),
    "soft_ce": Replicate("kd", _ENTROPY, {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9}),
}


@dataclass(frozen=True)
class Difference:
    """A row minus its baseline, in percentage points of accuracy after the last epoch.

    `holm` is the p-value of Welch's test adjusted for all differences of a published table; None elsewhere, and where
    the difference is not one of those that the table tests.
    """

    baseline: "Row"
    points: float
    welch: Interval | None
    paired: Paired | None
    holm: float | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """Runs of one configuration with one teacher, in the order of their seeds: the unit is the seed.

    A row over several teachers has such rows as `members`, and its unit is the teacher: the mean over a teacher's
    students counts once, however many students it has.

    `naming` fills in `method`, `teacher_name` and `qualifiers` (what differs from the other rows); `comparison` the
    difference, and in `rivals` the possible baselines if there are several. `cell` is
    the published number that the row stands beside.
    """

    runs: tuple[FinishedRun, ...]
    members: tuple["Row", ...] = ()
    method: str = ""
    teacher_name: str = ""
    qualifiers: tuple[str, ...] = ()
    difference: Difference | None = None
    is_baseline: bool = False
    rivals: tuple["Row", ...] = ()
    cell: Cell | None = None

    @property
    def first(self) -> FinishedRun:
        """A run, for the values that all runs of the row share."""
        return self.runs[0]

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """The ids of the row's runs."""
        return frozenset(run.run_id for run in self.runs)

    @property
    def unit(self) -> str:
        """What each of the row's values belongs to: a seed or a teacher."""
        return "teacher" if self.members else "seed"

    @property
    def teacher(self) -> RowTeacher | None:
        """The teacher that all runs share; None where the loss needs none, and over several teachers."""
        return None if self.members else self.first.teacher

    @cached_property
    def dataset(self) -> str:
        """The name of the data set, without the place of its files."""
        return dataset_name(self.first.names["dataset"])

    @property
    def student(self) -> str:
        """The name of the student."""
        return self.first.names["student"]

    @property
    def recipe(self) -> str:
        """The name of the recipe."""
        return self.first.names["recipe"]

    @property
    def precision(self) -> str:
        """The resolved precision of the runs."""
        return self.first.precision

    @property
    def holdout(self) -> int:
        """How many held-out images the accuracies were measured on, 0 for the test set."""
        return self.first.holdout

    @cached_property
    def loss(self) -> str:
        """The loss as it was named, `kd temperature=8`; different names of one configuration are joined."""
        return " = ".join(sorted({run.names["loss"] for run in self.runs}, key=lambda name: (name.count(" "), name)))

    @property
    def preset(self) -> str:
        """The loss preset, without the changes made to it."""
        return preset_name(self.loss)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names by which the row can be chosen as baseline, the most exact first."""
        given = sorted({run.names["loss"] for run in self.runs})
        equal = equal_presets(self.first.config.get("loss"))
        return self.method, self.loss, *given, *equal, *map(preset_name, given)

    @cached_property
    def context(self) -> str:
        """Everything but loss, teacher and seed as comparable text: what a row shares with its baseline."""
        return self.without("seed", "objective", "teacher")

    def without(self, *sections: str) -> str:
        """The row's configuration but for these sections of its identity, as comparable text."""
        kept = {key: value for key, value in self.first.identity.items() if key not in sections}
        return json.dumps([kept, self.first.precision, self.first.split], sort_keys=True)

    @cached_property
    def by_unit(self) -> dict[Any, float]:
        """Accuracy after the last epoch in percent, by seed or by the digest of the teacher's weights."""
        if self.members:
            return {row.first.teacher.weights: row.last.mean for row in self.members if row.first.teacher}
        return {run.seed: run.last for run in self.runs}

    @cached_property
    def best_by_unit(self) -> dict[Any, float] | None:
        """Accuracy of the best epoch, chosen on the images it is measured on; None unless every run recorded it."""
        if any(run.best is None for run in self.runs):
            return None
        if self.members:
            return {row.first.teacher.weights: row.best.mean for row in self.members if row.first.teacher and row.best}
        return {run.seed: run.best for run in self.runs if run.best is not None}

    @cached_property
    def last(self) -> Summary:
        """Accuracy after the last epoch, in percent."""
        return summarize(list(self.by_unit.values()))

    @cached_property
    def best(self) -> Summary | None:
        """Accuracy of the best epoch; None unless every run recorded it."""
        return None if self.best_by_unit is None else summarize(list(self.best_by_unit.values()))

    @cached_property
    def averaged(self) -> Summary | None:
        """Accuracy of the averaged weights after the last epoch; None unless the recipe has an average."""
        found = [run.averaged for run in self.runs if run.averaged is not None]
        return summarize(found) if len(found) == len(self.runs) else None

    @cached_property
    def top5(self) -> Summary | None:
        """Accuracy among the five likeliest classes after the last epoch; None unless every run counted it."""
        found = [run.top5 for run in self.runs if run.top5 is not None]
        return summarize(found) if len(found) == len(self.runs) else None

    @property
    def within(self) -> float | None:
        """Over teachers: the deviation over student seeds, pooled over teachers; None with one seed each."""
        parts = [(row.last.n - 1, row.last.deviation) for row in self.members]
        degrees = sum(n for n, _ in parts)
        squares = sum(n * deviation**2 for n, deviation in parts if deviation is not None)
        return math.sqrt(squares / degrees) if degrees else None

    @cached_property
    def half(self) -> float | None:
        """Half of the 95 % interval of the mean: Student's t with n - 1 degrees of freedom over the n values.

        None where n = 1 or all values are equal: an interval of no width would claim certainty.
        """
        if self.last.deviation is None or self.last.deviation < NO_VARIANCE:
            return None
        return half_width(error=self.last.deviation / math.sqrt(self.last.n), degrees=self.last.n - 1)

    @property
    def seconds(self) -> float | None:
        """Mean seconds of training of the runs that recorded them."""
        return _mean(run.seconds for run in self.runs)

    @property
    def side_by_side(self) -> bool:
        """Whether some of its runs were trained with others in one process, so that seconds are a share."""
        return any(run.side_by_side > 1 for run in self.runs)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean seconds of an epoch, its evaluation included."""
        return _mean(run.seconds / run.epochs if run.seconds and run.epochs else None for run in self.runs)

    @property
    def peak_memory(self) -> int | None:
        """Peak memory in bytes, the largest of the runs."""
        return max((run.peak_memory for run in self.runs if run.peak_memory), default=None)

    @cached_property
    def verdict(self) -> Verdict | None:
        """Whether the row reproduces the published number, None where there is none."""
        if self.cell is None:
            return None
        last, best = list(self.by_unit.values()), self.best_by_unit
        runs = 1 if self.members else self.cell.runs
        return judge(last, None if best is None else list(best.values()), self.cell, published_runs=runs)

    @property
    def replicate(self) -> Replicate | None:
        """The equality that holds for this row's preset, None where there is none or its settings were changed."""
        found = REPLICATES.get(self.loss)
        if found is None:
            return None
        values = flatten(self.first.identity.get("objective"))
        settings = {path.split(".")[-1]: value for path, value in values.items()}
        return found if all(settings.get(key, value) == value for key, value in found.settings.items()) else None

    @property
    def mean_and_interval(self) -> str:
        """The mean with its interval, where there is one: `76.41 [75.90, 76.92]`."""
        if self.half is None:
            return f"{self.last.mean:.2f}"
        return f"{self.last.mean:.2f} [{self.last.mean - self.half:.2f}, {self.last.mean + self.half:.2f}]"

    @property
    def spread(self) -> str:
        """Over teachers: `between ± 0.21, within ± 0.15`, the latter only where a teacher has several students."""
        within = "" if self.within is None else f", within ± {self.within:.2f}"
        return f"between ± {self.last.deviation or 0.0:.2f}{within}"

    @property
    def difference_text(self) -> str:
        """The difference from the baseline, with Welch's interval where there is one."""
        if self.difference is None:
            return "baseline" if self.is_baseline else "-"
        return " ".join([points(self.difference.points), *map(str, filter(None, [self.difference.welch]))])

    @property
    def paired_text(self) -> str:
        """The paired interval and r, with the paired difference where that is not of all values of both rows."""
        if self.difference is None or self.difference.paired is None:
            return "-"
        found, baseline = self.difference.paired, self.difference.baseline
        text = span(found.interval.low, found.interval.high)
        if {found.pairs} != {self.last.n, baseline.last.n}:
            text = f"{points(found.interval.difference)} {text} {found.pairs} {self.unit}s"
        return text if found.correlation is None else f"{text} r={found.correlation:+.2f}"


def group(runs: Iterable[FinishedRun]) -> list[Row]:
    """Pool runs by their configuration without the seed.

    Runs whose teachers differ in weights or source (live, table), that differ in precision, or of which only some were
    measured on held-out images, are rows of their own.
    """

    def key(run: FinishedRun) -> str:
        kept = {key: value for key, value in run.identity.items() if key != "seed"}
        teacher = (run.teacher.weights, run.teacher.source) if run.teacher else None
        return json.dumps([kept, teacher, run.precision, run.split], sort_keys=True)

    return [Row(tuple(sorted(pool, key=lambda run: run.seed))) for pool in _pools(runs, key)]


def over_teachers(rows: Iterable[Row]) -> list[Row]:
    """Rows over several teachers: of the rows that differ in nothing but the training of their teacher.

    Teachers given as finished runs stay apart, since they may have been trained differently.
    """

    def key(row: Row) -> str:
        teacher = row.first.config.get("teacher") or {}
        trained = {key: value for key, value in teacher.items() if key not in ("seed", "source")}
        return json.dumps([row.without("seed", "teacher"), trained, row.first.teacher and row.first.teacher.source])

    taught = [row for row in rows if row.teacher and row.teacher.weights]
    pools = [each for each in _pools(taught, key) if len({row.teacher.weights for row in each if row.teacher}) > 1]
    return [
        Row(tuple(run for row in pool for run in row.runs), tuple(pool), pool[0].method, f"over {len(pool)} teachers")
        for pool in pools
    ]


def _pools(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    pools: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        pools[key(item)].append(item)
    return list(pools.values())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
