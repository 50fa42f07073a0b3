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

from distill.config import preset_files
from distill.config.tuning import SEEDS
from distill.tables.naming import short_digests
from distill.tables.presets import is_named
from distill.tables.published import parse_yaml
from distill.tables.rows import FinishedRun, Row, group
from distill.tables.values import flatten, natural_key, preset_name, rank, split_list, to_text

_DRAWN = ("loss.", "recipe.")  # runs that differ in another section have other images, students or teachers
_ABSENT = object()
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
    return sorted(preset_files("sweep", config_dir), key=natural_key)


def load_sweep(name: str, *, config_dir: Path | None = None) -> SweepPreset:
    """The sweep of that name, one of `sweep_names`. Raises ValueError, naming the file, where it is no sweep."""
    path = preset_files("sweep", config_dir)[name]
    try:
        content = parse_yaml(path.read_bytes()) or {}
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
    keys = [str(key) for key in varied if "." in str(key) and key not in SEEDS]
    single = {str(key) for key, value in params.items() if len(split_list(str(value))) == 1 and "(" not in str(value)}
    keys = [key for key in keys if key.startswith(_DRAWN) or key not in single]
    if others := [key for key in keys if not key.startswith(_DRAWN)]:
        raise ValueError(
            f"{path} varies {others[0]}: a page draws accuracy over keys of loss and recipe; `distill table` compares "
            "other runs"
        )
    text = str(params.get("loss", ""))
    losses = () if "(" in text else tuple(filter(None, split_list(text)))
    return SweepPreset(name, tuple(keys), losses, bool(space), frozenset(map(str, logarithmic)))


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
    measured on the test set, of each tuning of the same method. Of a curve on held-out images, `best` is the
    configuration it chose, then those with the same accuracy, and `tested` the runs trained with the choice on all
    images.
    """

    label: str
    preset: str
    method: Method
    cells: tuple[Configuration, ...]
    chosen: frozenset[tuple[Any, ...]]
    best: tuple[Configuration, ...] = ()
    tested: tuple[Row, ...] = ()

    @property
    def conditions(self) -> Hashable:
        """All that it shares with the curves of other losses that were trained alike: images, teacher, recipe."""
        settings = [item for item in self.method.settings if not item[0].startswith("objective.")]
        return self.method.teacher, self.method.precision, *settings, _measured_with(self.cells[0].row)


@dataclass(frozen=True, eq=False)
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


def sweep_panels(preset: SweepPreset, runs: Iterable[FinishedRun]) -> list[Panel]:
    """The runs of a sweep: two or more configurations of a method that differ in its keys; held-out panels first.

    Where a method was tuned on held-out images, its runs on the test set are a curve of their own only if all values
    were also run there; otherwise they are tests of the chosen values. Of a sweep without keys (methods, seeds) every
    configuration of its loss presets is shown.
    """
    pools: dict[tuple[Method, Hashable], list[Configuration]] = defaultdict(list)
    tested: dict[tuple[Method, Any], list[Row]] = defaultdict(list)
    for row in group(run for run in runs if not preset.losses or is_named(run.names, run.config, preset.losses)):
        values = _values(row, preset)
        if values is None:
            continue
        method = _method(row, preset)
        pools[method, _measured_with(row)].append(Configuration(values, row))
        if not row.holdout:
            tested[method, values].append(row)
    least = 2 if preset.keys else 1
    grids = [(method, _ordered(cells)) for (method, _), cells in pools.items() if len(cells) >= least]

    def best(method: Method, cells: Sequence[Configuration]) -> tuple[Configuration, ...]:
        """The highest mean; of ties first the one trained on all images, which is the one that the sweep chose."""
        means = [fmean(run.last for run in cell.row.runs) for cell in cells]
        highest = [cell for cell, mean in zip(cells, means, strict=True) if mean == max(means)]
        return tuple(sorted(highest, key=lambda cell: (method, cell.values) not in tested))

    tunings: dict[Method, list[tuple[Configuration, ...]]] = defaultdict(list)
    for method, cells in grids:
        if preset.keys and cells[0].row.holdout:
            tunings[method].append(cells)
    panels: dict[tuple[str, str, int], list[Curve]] = defaultdict(list)
    for method, cells in grids:
        row = cells[0].row
        # values can give a preset the name of another one: the most frequent name counts
        name = Counter(cell.row.preset for cell in cells).most_common(1)[0][0]
        curve = Curve(name, name, method, cells, frozenset())
        if row.holdout and preset.keys:
            found = best(method, cells)
            rows = tuple(tested.get((method, found[0].values), ()))
            curve = replace(curve, chosen=frozenset([found[0].values]), best=found, tested=rows)
        elif not row.holdout:
            if any({each.values for each in tuned} - {each.values for each in cells} for tuned in tunings[method]):
                continue
            curve = replace(curve, chosen=frozenset(best(method, tuned)[0].values for tuned in tunings[method]))
        panels[row.dataset, row.student, row.holdout].append(curve)
    order = sorted(panels.items(), key=lambda item: (not item[0][2], item[0]))
    return [Panel(*key, tuple(_labelled(curves))) for key, curves in order]


def _values(row: Row, preset: SweepPreset) -> tuple[Any, ...] | None:
    """The row's values of the swept keys, None where it lacks one."""
    config = flatten(row.first.config)
    found = []
    for key in preset.keys:
        value = config.get(key, _ABSENT)
        if value in (None, _ABSENT) and key.endswith(".alpha"):
            value = _alpha(config, key)
        if value is _ABSENT:
            return None
        found.append(to_text(value) if isinstance(value, list | tuple) else value)
    return tuple(found)


def _alpha(config: Mapping[str, Any], key: str) -> Any:
    """The `alpha` that gives a configuration's two weights, or _ABSENT."""
    ce, kd = (config.get(f"{key.rpartition('.')[0]}.{name}") for name in _ALPHA)
    if isinstance(ce, int | float) and isinstance(kd, int | float) and abs(ce + kd - 1) < 1e-9:
        return float(kd)
    return _ABSENT


def _method(row: Row, preset: SweepPreset) -> Method:
    swept = {path for key in preset.keys for path in _identity_paths(key)}
    identity = {key: value for key, value in row.first.identity.items() if key not in ("seed", "data", "teacher")}
    settings = sorted((path, to_text(value)) for path, value in flatten(identity).items() if path not in swept)
    teacher = preset_name(row.teacher.name) if row.teacher else "none"
    return Method(row.dataset, row.student, teacher, row.precision, tuple(settings))


def _identity_paths(key: str) -> list[str]:
    path = f"objective.{key.removeprefix('loss.')}" if key.startswith("loss.") else key
    return [f"{path.rpartition('.')[0]}.{name}" for name in _ALPHA] if path.endswith(".alpha") else [path]


def _measured_with(row: Row) -> Hashable:
    """What rows of a common curve share: the images; the teacher's weights, their source and own precision."""
    data = row.first.identity.get("data") or {}
    images = tuple(sorted((key, to_text(value)) for key, value in flatten(data).items()))
    teacher = row.first.identity.get("teacher") or {}
    return images, (row.teacher.weights, row.teacher.source, teacher.get("precision")) if row.teacher else None


def _ordered(cells: Iterable[Configuration]) -> tuple[Configuration, ...]:
    return tuple(sorted(cells, key=lambda cell: list(map(rank, cell.values))))


def _labelled(curves: Sequence[Curve]) -> list[Curve]:
    """The curves of a panel by preset, with unique labels."""
    found = []
    for preset in sorted({curve.preset for curve in curves}, key=natural_key):
        alike = [curve for curve in curves if curve.preset == preset]
        found += [replace(curve, label=label) for curve, label in zip(alike, _labels(alike), strict=True)]
    return found


def _labels(alike: Sequence[Curve]) -> list[str]:
    """The preset, then what distinguishes these curves of it: teacher, settings, teacher weights, or a run's id."""
    rows = [curve.cells[0].row for curve in alike]
    settings = [dict(curve.method.settings) for curve in alike]
    varying = {path for each in settings for path in each if len({other.get(path) for other in settings}) > 1}
    digests = short_digests(str(row.teacher.weights) for row in rows if row.teacher)
    facts = [
        [f"teacher {row.teacher.name}" if row.teacher else "" for row in rows],
        [", ".join(f"{k.rpartition('.')[2]}={v}" for k, v in each.items() if k in varying) for each in settings],
        [digests[str(row.teacher.weights)] if row.teacher else "" for row in rows],
        [f"run {row.first.run_id}" for row in rows],
    ]
    parts = [[curve.preset] for curve in alike]
    for values in facts:
        shared = [len(set(values)) > 1 and parts.count(each) > 1 for each in parts]
        parts = [[*each, value] if add else each for each, value, add in zip(parts, values, shared, strict=True)]
    return [", ".join(filter(None, each)) for each in parts]
