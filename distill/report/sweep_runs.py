"""The finished runs of a sweep: its configurations, the images they were measured on, and which one was chosen.

Imports neither torch, Hydra nor matplotlib.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from distill.config import configs_dir
from distill.tables.naming import short_digests
from distill.tables.rows import FinishedRun, Row, group
from distill.tables.values import flatten, natural_key, preset_name, split_list, to_text

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SEEDS = ("seed", "teacher.seed")  # averaged over, so never a swept value
_SECTIONS = {"loss": "objective", "dataset": "data"}  # sections of a configuration with another name in an identity
_ALPHA = ("ce_weight", "kd_weight")  # what loss.alpha becomes


@dataclass(frozen=True)
class SweepPreset:
    """What `configs/sweep/NAME.yaml` varies.

    `keys` are the swept values, as `loss.temperature`; `losses` the loss presets, empty for any. `searched`: the values
    are proposed one after the other; `logarithmic` are the keys that a search draws on a logarithmic scale.
    """

    name: str
    keys: tuple[str, ...]
    losses: tuple[str, ...]
    searched: bool
    logarithmic: frozenset[str]


def sweep_names(*, config_dir: Path | None = None) -> list[str]:
    """The shipped sweeps and those in `config_dir/sweep`."""
    return sorted({path.stem for folder in _folders(config_dir) for path in folder.glob("*.yaml")}, key=natural_key)


def load_sweep(name: str, *, config_dir: Path | None = None) -> SweepPreset:
    """The sweep of that name, one of `sweep_names`. Raises ValueError, naming the file, where it is no sweep."""
    path = next(path for folder in _folders(config_dir) if (path := folder / f"{name}.yaml").is_file())
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader) or {}
        node = content.get("sweep", content)
        params, search = node.get("params") or {}, node.get("search") or {}
        space = search.get("space") or {}
        logarithmic = {key for key, value in space.items() if isinstance(value, Mapping) and value.get("log")}
        varied = {**params, **space}
    except (yaml.YAMLError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} is no sweep: it needs sweep.params or sweep.search.space, by key") from error
    if not varied:
        raise ValueError(f"{path} varies nothing of its own: give it sweep.params or sweep.search.space")
    keys = tuple(str(key) for key in varied if "." in str(key) and key not in SEEDS)
    text = str(params.get("loss", ""))
    losses = () if "(" in text else tuple(filter(None, split_list(text)))
    return SweepPreset(name, keys, losses, bool(space), frozenset(map(str, logarithmic)))


def _folders(config_dir: Path | None) -> list[Path]:
    return [configs_dir() / "sweep", *([config_dir / "sweep"] if config_dir else [])]


class Method(NamedTuple):
    """What the runs of a curve have in common, apart from training images and teacher weights.

    It is equal for the runs that tune a method and for those trained on all images with the values chosen.
    """

    dataset: str
    student: str
    teacher: str
    precision: str
    settings: tuple[tuple[str, str], ...]  # the rest of the identity without seed and swept values, by path


@dataclass(frozen=True, eq=False)
class Configuration:
    """The values of the swept keys, and the runs with them, one for each seed."""

    values: tuple[Any, ...]
    row: Row


@dataclass(frozen=True, eq=False)
class Curve:
    """Configurations of one method that differ in the swept keys alone, measured on the same images.

    `label` is unique in its panel. `chosen` are the values best on held-out images: of this curve, or, where it is
    measured on the test set, of each tuning of the same method.
    """

    label: str
    preset: str
    method: Method
    cells: tuple[Configuration, ...]
    chosen: frozenset[tuple[Any, ...]]


@dataclass(frozen=True)
class Panel:
    """Curves that may be compared: one data set, one student, one set of images (`holdout` is 0 for the test set)."""

    dataset: str
    student: str
    holdout: int
    curves: tuple[Curve, ...]

    @property
    def measured_on(self) -> str:
        """The images, for a label."""
        return f"{self.holdout:,} held-out images" if self.holdout else "the test set"


@dataclass(frozen=True, eq=False)
class Choice:
    """The configuration that a tuning chose, and the runs trained with it on all images.

    `ties` are the other configurations with the same accuracy on the held-out images.
    """

    panel: Panel
    curve: Curve
    cell: Configuration
    tested: tuple[Row, ...]
    ties: tuple[Configuration, ...]


@dataclass(frozen=True)
class SweepRuns:
    """All finished runs of a sweep: `panels` to draw, those on held-out images first, and what was chosen."""

    preset: SweepPreset
    panels: tuple[Panel, ...]
    choices: tuple[Choice, ...]

    @property
    def runs(self) -> list[str]:
        """The ids of all runs shown."""
        rows = [cell.row for panel in self.panels for curve in panel.curves for cell in curve.cells]
        rows += [row for choice in self.choices for row in choice.tested]
        return list(dict.fromkeys(run.run_id for row in rows for run in row.runs))


def find_sweep_runs(preset: SweepPreset, runs: Iterable[FinishedRun]) -> SweepRuns:
    """The runs of a sweep: two or more configurations of a method that differ in its keys.

    Where a method was tuned on held-out images, its runs on the test set are a curve of their own only if all values
    were also run there; otherwise they are tests of the chosen values. Of a sweep without keys (methods, seeds) every
    configuration of its loss presets is shown.
    """
    pools: dict[tuple[Method, Hashable], list[Configuration]] = defaultdict(list)
    tested: dict[tuple[Method, Any], list[Row]] = defaultdict(list)
    for row in group(run for run in runs if not preset.losses or preset_name(run.names["loss"]) in preset.losses):
        values = _values(row, preset)
        if values is None:
            continue
        method = _method(row, preset)
        pools[method, _measured_with(row)].append(Configuration(values, row))
        if not row.holdout:
            tested[method, values].append(row)
    least = 2 if preset.keys else 1
    grids = [(method, _ordered(cells)) for (method, _), cells in pools.items() if len(cells) >= least]
    tunings: dict[Method, list[tuple[Configuration, ...]]] = defaultdict(list)
    for method, cells in grids:
        if preset.keys and cells[0].row.holdout:
            tunings[method].append(cells)

    def best(curve: Curve) -> list[Configuration]:
        return _best(curve.method, curve.cells, tested)

    curves = []
    for method, cells in grids:
        held_out = bool(cells[0].row.holdout)
        judges = [cells] if held_out and preset.keys else tunings[method]
        if held_out or all({each.values for each in judge} <= {each.values for each in cells} for judge in judges):
            chosen = frozenset(_best(method, judge, tested)[0].values for judge in judges)
            # values can give a preset the name of another one: the most frequent name counts
            name = Counter(cell.row.preset for cell in cells).most_common(1)[0][0]
            curves.append(Curve(name, name, method, cells, chosen))
    panels = _panels(curves)
    choices = tuple(
        Choice(panel, curve, first, tuple(tested[curve.method, first.values]), tuple(ties))
        for panel in panels
        for curve in panel.curves
        if panel.holdout and preset.keys
        for first, *ties in [best(curve)]
    )
    return SweepRuns(preset, panels, choices)


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
    if isinstance(ce, int | float) and isinstance(kd, int | float) and abs(ce + kd - 1) < 1e-9:
        return float(kd)
    return None


def _method(row: Row, preset: SweepPreset) -> Method:
    swept = {path for key in preset.keys for path in _identity_paths(key)}
    identity = {key: value for key, value in row.first.identity.items() if key not in ("seed", "data", "teacher")}
    settings = sorted((path, to_text(value)) for path, value in flatten(identity).items() if path not in swept)
    teacher = preset_name(row.teacher.name) if row.teacher else "none"
    return Method(row.dataset, row.student, teacher, row.precision, tuple(settings))


def _identity_paths(key: str) -> list[str]:
    section, _, rest = key.partition(".")
    path = f"{_SECTIONS.get(section, section)}.{rest}"
    return [f"{path.rpartition('.')[0]}.{name}" for name in _ALPHA] if path.endswith(".alpha") else [path]


def _measured_with(row: Row) -> Hashable:
    """The images, the teacher's weights and their source: rows that differ in these have no common curve."""
    data = row.first.identity.get("data") or {}
    images = tuple(sorted((key, to_text(value)) for key, value in flatten(data).items()))
    return images, (row.teacher.weights, row.teacher.source) if row.teacher else None


def _best(
    method: Method, cells: Sequence[Configuration], tested: Mapping[tuple[Method, Any], Sequence[Row]]
) -> list[Configuration]:
    """The configurations with the highest mean; of ties first the one trained on all images, as a sweep does."""
    means = [fmean(run.last for run in cell.row.runs) for cell in cells]
    best = [cell for cell, mean in zip(cells, means, strict=True) if mean == max(means)]
    return sorted(best, key=lambda cell: not tested.get((method, cell.values)))


def _ordered(cells: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """By their values: numbers by size, before words."""

    def order(value: Any) -> tuple[bool, Any]:
        return not is_number(value), value if is_number(value) else natural_key(to_text(value))

    return tuple(sorted(cells, key=lambda cell: list(map(order, cell.values))))


def is_number(value: Any) -> bool:
    """Whether a swept value is a number, not a word."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _panels(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """The panels, those on held-out images first; the curves of a panel get unique labels."""
    pools: dict[tuple[str, str, int], list[Curve]] = defaultdict(list)
    for curve in curves:
        row = curve.cells[0].row
        pools[row.dataset, row.student, row.holdout].append(curve)
    found = []
    for place, members in sorted(pools.items(), key=lambda item: (not item[0][2], item[0])):
        members.sort(key=lambda curve: natural_key(curve.preset))
        labelled = [replace(each, label=label) for each, label in zip(members, _labels(members), strict=True)]
        found.append(Panel(*place, tuple(labelled)))
    return tuple(found)


def _labels(curves: Sequence[Curve]) -> list[str]:
    """The preset, then what distinguishes curves of one preset: teacher, settings, teacher weights, or a run's id."""
    parts = [[curve.preset] for curve in curves]
    for fact in (_teacher, _differing_settings, _weights, _run):
        shared = [parts.count(each) > 1 for each in parts]
        for n, curve in enumerate(curves):
            alike = [other for other in curves if other.preset == curve.preset]
            if shared[n] and len({fact(other, alike) for other in alike}) > 1:
                parts[n] = [*parts[n], fact(curve, alike)]
    return [", ".join(filter(None, each)) for each in parts]


def _teacher(curve: Curve, _: Sequence[Curve]) -> str:
    teacher = curve.cells[0].row.teacher
    return f"teacher {teacher.name}" if teacher else ""


def _differing_settings(curve: Curve, alike: Sequence[Curve]) -> str:
    every = [dict(other.method.settings) for other in alike]
    mine = dict(curve.method.settings)
    paths = [path for path in mine if len({each.get(path) for each in every}) > 1]
    return ", ".join(f"{path.rpartition('.')[2]}={mine[path]}" for path in paths)


def _weights(curve: Curve, alike: Sequence[Curve]) -> str:
    every = [str(each.cells[0].row.teacher.weights) for each in alike if each.cells[0].row.teacher]
    teacher = curve.cells[0].row.teacher
    return short_digests(every)[str(teacher.weights)] if teacher else ""


def _run(curve: Curve, _: Sequence[Curve]) -> str:
    return f"run {curve.cells[0].row.first.run_id}"
