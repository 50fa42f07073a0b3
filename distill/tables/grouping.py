"""Which runs are seeds of one row, and which must never be pooled."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.tables.reading import Finished, Teacher
from distill.tables.statistics import Summary, summarize
from distill.tables.values import preset_name

# What may differ between a row and its baseline. All else is the context they share: only the loss differs.
METHOD_SECTIONS = ("seed", "objective", "teacher")


@dataclass(frozen=True)
class Row:
    """The runs of one configuration, one per seed, in the order of their seeds."""

    runs: tuple[Finished, ...]

    @property
    def first(self) -> Finished:
        """Any one run stands for what all runs of the row share."""
        return self.runs[0]

    @property
    def loss(self) -> str:
        """The loss as it was named, `kd temperature=8`; names of equal configuration are told together."""
        return " = ".join(sorted({run.names["loss"] for run in self.runs}))

    @property
    def preset(self) -> str:
        """The loss preset, whatever was changed in it."""
        return preset_name(self.loss)

    @cached_property
    def run_ids(self) -> frozenset[str]:
        """The ids of the row's runs."""
        return frozenset(run.run_id for run in self.runs)

    @property
    def teacher(self) -> Teacher | None:
        """The teacher all runs of the row share, None where the loss needs none."""
        return self.first.teacher

    @property
    def last(self) -> Summary:
        """Accuracy after the last epoch, in percent."""
        return summarize([run.last for run in self.runs])

    @property
    def best(self) -> Summary | None:
        """Accuracy of the best epoch, chosen by looking at it; None unless every run recorded it."""
        values = [run.best for run in self.runs if run.best is not None]
        return summarize(values) if len(values) == len(self.runs) else None

    @property
    def seconds(self) -> float | None:
        """Mean seconds of training of the runs that recorded them."""
        return _mean(run.seconds for run in self.runs)

    @property
    def seconds_per_epoch(self) -> float | None:
        """Mean seconds of an epoch, its evaluation included."""
        return _mean(run.seconds / run.epochs if run.seconds and run.epochs else None for run in self.runs)

    @property
    def peak_memory(self) -> int | None:
        """Most bytes that any of the runs took."""
        return max((run.peak_memory for run in self.runs if run.peak_memory), default=None)

    @property
    def by_seed(self) -> dict[int, float]:
        """Accuracy after the last epoch of each seed, in percent."""
        return {run.seed: run.last for run in self.runs}

    @cached_property
    def context(self) -> str:
        """Everything but loss, teacher and seed, as one comparable text."""
        kept = {key: value for key, value in self.first.identity.items() if key not in METHOD_SECTIONS}
        return _text([kept, self.first.precision, self.first.split])


def group(runs: Iterable[Finished]) -> list[Row]:
    """Pool runs by their configuration without the seed.

    Runs whose teachers differ in weights or source (live, table), that mix precisions, or of which only some
    were measured on a hold-out, are rows of their own.
    """
    pools: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        pools[_key(run)].append(run)
    return [Row(tuple(sorted(pool, key=lambda run: run.seed))) for pool in pools.values()]


def _key(run: Finished) -> str:
    kept = {key: value for key, value in run.identity.items() if key != "seed"}
    teacher = (run.teacher.weights, run.teacher.source) if run.teacher else None
    return _text([kept, teacher, run.precision, run.split])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _text(value: Mapping[str, Any] | list[Any]) -> str:
    return json.dumps(value, sort_keys=True)
