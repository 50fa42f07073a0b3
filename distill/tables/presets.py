"""Finds the loss presets whose values equal a run's, so that filters find the run under those names too."""

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import yaml

from distill.config import preset_files
from distill.runs.target_names import with_current_names
from distill.tables.published import parse_yaml
from distill.tables.values import flatten, preset_name

Values = dict[str, Any]


def comparable(node: Any, *, prefix: str = "") -> Values:
    """The leaves of a node by dotted path; numbers as in run ids, and null equals a missing key."""
    found = {path: _comparable(value) for path, value in flatten(node or {}, prefix=prefix).items()}
    return {path: value for path, value in found.items() if value is not None and value != {}}


def _comparable(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(f"{value:.12g}")
    return [_comparable(item) for item in value] if isinstance(value, list | tuple) else value


def tuned_values(config: Mapping[str, Any]) -> Values:
    """The values of a run that a sweep may tune: those of its loss and its recipe."""
    return comparable(config.get("loss"), prefix="loss") | comparable(config.get("recipe"), prefix="recipe")


def varying(settings: Sequence[Values]) -> tuple[str, ...]:
    """The keys in which these differ, in their order."""
    paths = dict.fromkeys(path for each in settings for path in each)
    return tuple(path for path in paths if any(each.get(path) != settings[0].get(path) for each in settings))


def without(values: Values, keys: Collection[str]) -> Values:
    """The values but for those of these keys."""
    return {key: value for key, value in values.items() if key not in keys}


def of_the_same_sweep(losses: Sequence[Any], chosen: Sequence[bool]) -> list[bool]:
    """Which of the `loss` nodes are chosen, or differ from chosen ones only in keys that vary among the chosen.

    Where temperatures of `kd` were swept, the run at 2 belongs to them also if it was trained as `kd_w09_t2`.
    """
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for place, loss in enumerate(losses):
        if isinstance(loss, Mapping):
            alike[_targets(loss)].append(place)
    found = list(chosen)
    for places in alike.values():
        if any(found[place] for place in places) and not all(found[place] for place in places):
            values = {place: comparable(losses[place]) for place in places}
            swept = [values[place] for place in places if chosen[place]]
            keys = varying(swept)
            fixed = without(swept[0], keys)
            for place in places:
                found[place] |= without(values[place], keys) == fixed
    return found


def equal_presets(loss: Any) -> list[str]:
    """The shipped loss presets with the values of a run's `loss` node, but for presets that an experiment fills."""
    if not isinstance(loss, Mapping):
        return []
    alike = _by_targets().get(_targets(loss), ())
    values = comparable(loss) if alike else {}
    return [name for name, preset in alike if preset == values]


def is_named(names: Mapping[str, Any], config: Mapping[str, Any], presets: Collection[str]) -> bool:
    """Whether a run was trained under one of these loss presets, changed or not, or has the values of one."""
    return preset_name(str(names.get("loss", ""))) in presets or any(
        each in presets for each in equal_presets(config.get("loss"))
    )


@cache
def _by_targets() -> dict[Hashable, tuple[tuple[str, Values], ...]]:
    found: dict[Hashable, tuple[tuple[str, Values], ...]] = {}
    for name, path in preset_files("loss", None).items():
        with suppress(yaml.YAMLError, OSError, AttributeError):
            node = _resolved(with_current_names(parse_yaml(path.read_bytes())))
            if "defaults" not in node:
                found[_targets(node)] = (*found.get(_targets(node), ()), (name, comparable(node)))
    return found


def _resolved(value: Any, *above: Mapping[str, Any]) -> Any:
    """A preset with the values that its relative interpolations name: `${...rate}` is `rate` two levels above.

    By hand, because OmegaConf takes longer to import than most tables to print.
    """
    if isinstance(value, Mapping):
        return {key: _resolved(part, *above, value) for key, part in value.items()}
    if isinstance(value, str) and (found := re.fullmatch(r"\$\{(\.+)(\w+)\}", value)):
        return above[-len(found[1])].get(found[2])
    return value


def _targets(loss: Mapping[str, Any]) -> Hashable:
    """The classes and functions of a loss, which differ between most presets and are cheap to compare."""
    divergence = loss.get("divergence")
    # as text: in a damaged record they could be anything
    return str(loss.get("_target_")), str(divergence.get("_target_") if isinstance(divergence, Mapping) else divergence)
