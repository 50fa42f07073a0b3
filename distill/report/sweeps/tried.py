"""The finished runs of a sweep: which configurations were tried, on which images, and which one was chosen."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from distill.report.sweeps.labels import labels
from distill.report.sweeps.preset import SweepPreset
from distill.tables.rows import FinishedRun, Row, group
from distill.tables.values import flatten, natural_key, preset_name, to_text

_SECTIONS = {"loss": "objective", "dataset": "data"}  # what a section of a configuration is called in an identity
_ALPHA = ("ce_weight", "kd_weight")  # what loss.alpha becomes


@dataclass(frozen=True, eq=False)
class Tried:
    """One configuration: the values of the swept keys, and its runs, one a seed."""

    values: tuple[Any, ...]
    row: Row


@dataclass(frozen=True, eq=False)
class Curve:
    """The configurations of one method that differ in the swept keys alone, measured on the same images.

    `label` tells it from the other curves of its panel. `kin` is equal for what tunes a method and what is trained with
    the values chosen: those differ in the images they train on, and in the teacher's weights. `chosen` are the values
    best on held-out images, here or, for a curve on the test set, in each tuning of the same method.
    """

    label: str
    preset: str
    kin: tuple[Any, ...]
    cells: tuple[Tried, ...]
    chosen: frozenset[tuple[Any, ...]]

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """What its configurations share, by path."""
        settings: tuple[tuple[str, str], ...] = self.kin[-1]
        return settings

    @property
    def holdout(self) -> int:
        """How many held-out images the accuracies are of, 0 for the test set."""
        return self.cells[0].row.holdout


@dataclass(frozen=True)
class Panel:
    """What may be compared: one data set, student and set of images measured on."""

    dataset: str
    student: str
    holdout: int
    curves: tuple[Curve, ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """What a tuning chose: the configuration, of how many, and the runs trained with it on all images.

    `ties` are the others that were as good on the held-out images.
    """

    curve: Curve
    cell: Tried
    tested: tuple[Row, ...]
    ties: tuple[Tried, ...]


@dataclass(frozen=True)
class SweepRuns:
    """All of a sweep that is finished: `panels` to draw, the held-out ones first, and what was chosen."""

    preset: SweepPreset
    panels: tuple[Panel, ...]
    choices: tuple[Choice, ...]

    @property
    def runs(self) -> list[str]:
        """The ids of all runs that are shown."""
        shown = [cell.row for panel in self.panels for curve in panel.curves for cell in curve.cells]
        shown += [row for choice in self.choices for row in choice.tested]
        return list(dict.fromkeys(run.run_id for row in shown for run in row.runs))


def tried(preset: SweepPreset, runs: Iterable[FinishedRun]) -> SweepRuns:
    """What of these runs belongs to the sweep: configurations of a method that differ in its keys, two or more.

    Where a method was tuned on held-out images, its runs on the test set are a grid of their own only if all values
    were run there too: else they are what was chosen. For a sweep that varies no values (methods, seeds), every
    configuration of its loss presets is shown.
    """
    rows = group(run for run in runs if not preset.losses or preset_name(run.names["loss"]) in preset.losses)
    pools: dict[tuple[Any, Hashable], list[Tried]] = defaultdict(list)
    tested: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        values = _values(row, preset)
        if values is None:
            continue
        kin = _kin(row, preset)
        pools[kin, _measured(row)].append(Tried(values, row))
        if not row.holdout:
            tested[kin, values].append(row)
    least = 2 if preset.keys else 1
    grids = {key: _ordered(cells) for key, cells in pools.items() if len(cells) >= least}
    tunings: dict[Hashable, list[tuple[Tried, ...]]] = defaultdict(list)
    for (kin, _), cells in grids.items():
        if preset.keys and cells[0].row.holdout:
            tunings[kin].append(cells)
    curves = []
    for (kin, _), cells in grids.items():
        judged = [cells] if cells in tunings[kin] else tunings[kin]
        if cells[0].row.holdout or all(_covers(cells, others) for others in judged):
            chosen = frozenset(_best(kin, others, tested)[0].values for others in judged)
            curves.append(Curve(preset_of(cells), preset_of(cells), kin, cells, chosen))
    panels = _panels(curves)
    choices = tuple(
        Choice(curve, best, tuple(tested[curve.kin, best.values]), tuple(ties))
        for panel in panels
        for curve in panel.curves
        if panel.holdout and preset.keys
        for best, *ties in [_best(curve.kin, curve.cells, tested)]
    )
    return SweepRuns(preset, panels, choices)


def preset_of(cells: Sequence[Tried]) -> str:
    """The loss preset that most of the cells are called by: with some values a preset has the name of another."""
    return Counter(cell.row.preset for cell in cells).most_common(1)[0][0]


def _covers(cells: Sequence[Tried], others: Sequence[Tried]) -> bool:
    return {cell.values for cell in others} <= {cell.values for cell in cells}


def _values(row: Row, preset: SweepPreset) -> tuple[Any, ...] | None:
    """The row's values of the swept keys, None where it lacks one."""
    config = flatten(row.first.config)
    found = []
    for key in preset.keys:
        value = config.get(key)
        if value is None and key.endswith(".alpha"):
            value = _alpha(config, key)
        if value is None:
            return None
        found.append(to_text(value) if isinstance(value, list | tuple) else value)
    return tuple(found)


def _alpha(config: Mapping[str, Any], key: str) -> float | None:
    """The `alpha` that gives a configuration's two weights, if one does."""
    ce, kd = (config.get(f"{key.rpartition('.')[0]}.{name}") for name in _ALPHA)
    alike = isinstance(ce, int | float) and isinstance(kd, int | float) and abs(ce + kd - 1) < 1e-9
    return float(kd) if alike and kd is not None else None


def _kin(row: Row, preset: SweepPreset) -> tuple[Any, ...]:
    """All that makes a configuration but seed, swept values, training images and the teacher's weights."""
    gone = {path for key in preset.keys for path in _paths(key)}
    identity = {key: value for key, value in row.first.identity.items() if key not in ("seed", "data", "teacher")}
    kept = tuple(sorted((path, to_text(value)) for path, value in flatten(identity).items() if path not in gone))
    teacher = preset_name(row.teacher.name) if row.teacher else "none"
    return row.dataset, row.student, teacher, row.precision, kept


def _paths(key: str) -> list[str]:
    section, _, rest = key.partition(".")
    path = f"{_SECTIONS.get(section, section)}.{rest}"
    return [f"{path.rpartition('.')[0]}.{name}" for name in _ALPHA] if path.endswith(".alpha") else [path]


def _measured(row: Row) -> Hashable:
    """What further parts rows whose accuracies are not of one kind: images, the teacher's weights and form."""
    data = row.first.identity.get("data") or {}
    images = tuple(sorted((key, to_text(value)) for key, value in flatten(data).items()))
    return images, (row.teacher.weights, row.teacher.source) if row.teacher else None


def _best(kin: Hashable, cells: Sequence[Tried], tested: Mapping[Any, Sequence[Row]]) -> list[Tried]:
    """The cells with the highest mean: first what was trained on all images, as a sweep does with the one it chose."""
    means = [fmean(run.last for run in cell.row.runs) for cell in cells]
    best = [cell for cell, mean in zip(cells, means, strict=True) if mean == max(means)]
    return sorted(best, key=lambda cell: not tested.get((kin, cell.values)))


def _ordered(cells: Iterable[Tried]) -> tuple[Tried, ...]:
    return tuple(sorted(cells, key=lambda cell: [_place(value) for value in cell.values]))


def _place(value: Any) -> tuple[bool, Any]:
    return not is_number(value), value if is_number(value) else natural_key(to_text(value))


def is_number(value: Any) -> bool:
    """Whether a swept value is a number, not a word."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """The held-out ones first; in each panel no two curves are called the same."""
    pools: dict[tuple[str, str, int], list[Curve]] = defaultdict(list)
    for curve in curves:
        row = curve.cells[0].row
        pools[row.dataset, row.student, curve.holdout].append(curve)
    found = []
    for place, members in sorted(pools.items(), key=lambda item: (not item[0][2], item[0])):
        members.sort(key=lambda curve: natural_key(curve.preset))
        called = [replace(each, label=label) for each, label in zip(members, labels(members), strict=True)]
        found.append(Panel(*place, tuple(called)))
    return tuple(found)
