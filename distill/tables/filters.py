"""`key=value` as a filter on runs: names (`student=resnet8`), configuration (`loss.temperature=4`)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.runs.store import RunRecord, damage
from distill.tables.presets import equal_presets, of_the_same_sweep
from distill.tables.values import dataset_name, flatten, matches, natural_key, preset_name, split_list, to_text

NAMES = ("dataset", "student", "teacher", "loss", "recipe")
FILTERS = (*NAMES, "seed", "precision", "status")
_ABSENT = object()


@dataclass(frozen=True)
class Filter:
    """One `key=A,B`: a run passes when it has any of the values."""

    key: str
    wanted: tuple[str, ...]

    def value(self, record: RunRecord) -> Any:
        """A run's value of the key. Seed and precision are those of the identity: resolved, never `auto`."""
        if self.key in NAMES:
            return record.names.get(self.key, _ABSENT)
        if self.key == "status":
            return "damaged" if damage(record) else record.status
        if self.key in FILTERS:
            return record.identity.get(self.key, _ABSENT)
        node: Any = record.config
        for part in self.key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return _ABSENT
            node = node[part]
        return node

    def passed(self, records: Sequence[RunRecord]) -> list[bool]:
        """Which runs have one of the wanted values; `kd temperature=8` passes `kd` too.

        A run passes every loss preset that its values equal, and a preset of which a sweep has its values, whatever it
        was named.
        """
        if self.key != "loss":
            return [self._has(record, self.wanted) for record in records]
        losses = [record.config.get("loss") for record in records]
        of_each = (of_the_same_sweep(losses, [self._has(each, [text]) for each in records]) for text in self.wanted)
        return [any(found) for found in zip(*of_each, strict=True)] if self.wanted else [False] * len(records)

    def _has(self, record: RunRecord, wanted: Sequence[str]) -> bool:
        value = self.value(record)
        if value is _ABSENT:
            return False
        values: tuple[Any, ...] = (value, preset_name(value)) if self.key in NAMES else (value,)
        values += (dataset_name(value),) if self.key == "dataset" else ()
        if any(matches(each, text) for each in values for text in wanted):
            return True
        return self.key == "loss" and not set(wanted).isdisjoint(equal_presets(record.config.get("loss")))

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.wanted)}"


def read_filters(pairs: Mapping[str, str]) -> list[Filter]:
    """The filters among a command's pairs (all but `runs_dir`)."""
    return [
        Filter(key, tuple(text for text in split_list(value) if text))
        for key, value in pairs.items()
        if key != "runs_dir"
    ]


def unknown(filters: Iterable[Filter], records: Sequence[RunRecord]) -> list[tuple[Filter, list[str]]]:
    """The filters whose key no run has, each with the existing keys nearest to it; none for an empty store."""
    dotted = [each for each in filters if each.key not in FILTERS]
    if not dotted or not records:
        return []
    known = sorted({path for record in records for path in flatten(record.config)})
    return [(each, _nearest(each.key, known)) for each in dotted if known and each.key not in known]


def _nearest(key: str, known: Sequence[str]) -> list[str]:
    root, _, tail = key.partition(".")
    inside = [path for path in known if path.startswith(f"{key}.")]
    near = [path for path in known if path.partition(".")[0] == root]
    alike = [path for path in known if path.partition(".")[2] == tail]
    return inside or near or alike or sorted({path.partition(".")[0] for path in known})


def passing(records: Iterable[RunRecord], filters: Iterable[Filter]) -> list[RunRecord]:
    """The runs that pass every filter."""
    every = list(records)
    passed = [each.passed(every) for each in filters]
    return [record for place, record in enumerate(every) if all(each[place] for each in passed)]


@dataclass(frozen=True)
class Selection:
    """The runs of a store, and the filters that choose among them."""

    runs_dir: Path
    records: tuple[RunRecord, ...]
    filters: tuple[Filter, ...]

    @property
    def chosen(self) -> list[RunRecord]:
        """The runs that pass every filter."""
        return passing(self.records, self.filters)

    def without(self, *sections: str) -> list[RunRecord]:
        """The runs that pass every filter except those on these sections (`loss`, `loss.temperature`)."""
        return passing(self.records, [each for each in self.filters if each.key.split(".")[0] not in sections])

    def nothing(self) -> str:
        """Why no run is chosen, in one line, with the existing values where one filter alone matches nothing."""
        if not self.records:
            return f"no runs in {self.runs_dir}: `distill train` makes one"
        wanted = " ".join(map(str, self.filters))
        for each in self.filters:
            if not passing(self.records, [each]):
                values = {to_text(value) for value in map(each.value, self.records) if value is not _ABSENT}
                existing = " or ".join(sorted(values, key=natural_key))
                return f"no run matches {wanted}: the runs in {self.runs_dir} have {each.key} {existing}"
        return f"no run matches {wanted}: each filter alone matches some runs"
