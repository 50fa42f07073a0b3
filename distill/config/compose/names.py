"""The names of a run's parts for people: the chosen option and the values changed in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill.config.compose.composer import Composed
from distill.config.compose.presets import UNCHOSEN, Presets
from distill.config.faults import key_of

GROUPS = ("dataset", "student", "teacher", "loss", "recipe")
NETWORKS = {"student", "teacher"}  # an experiment may fill what their presets leave open, such as torchvision's name


def run_names(composed: Composed, config: Mapping[str, Any], presets: Presets) -> dict[str, str]:
    """`{"loss": "kd temperature=3", ...}`: the presets that the command named, and what it changed in them."""
    names = {group: composed.choices.get(group, "?") for group in GROUPS}
    base = _experiment(composed)
    groups = _touched(composed) | (NETWORKS if base else set())
    touched = {group: option for group, option in names.items() if group in groups and option != "?"}
    named = {group: option for group, option in touched.items() if option != UNCHOSEN}
    presented: dict[str, Any] = {}
    for start, part in ((base, named.keys() - NETWORKS), ((), named.keys() & NETWORKS)):
        if part:
            presented |= presets.nodes({group: named[group] for group in GROUPS if group in part}, start)
    for group, preset in {**{key: {} for key in touched}, **presented}.items():
        node = config[group] if group != "teacher" else (config["teacher"] or {}).get("network")
        if node is not None:
            names[group] = _name(touched[group], node, preset)
    return names


def recipe_name(composed: Composed, recipe: Mapping[str, Any], presets: Presets) -> str:
    """The name of a teacher's own recipe node: made from the run's option, or from one chosen for the teacher."""
    option = composed.choices.get("recipe@teacher.recipe") or composed.choices.get("recipe", "?")
    return _name(option, recipe, presets.nodes({"recipe": option})["recipe"])


def _touched(composed: Composed) -> set[str]:
    """The groups in which the command sets values of its own."""
    keys = set(map(key_of, composed.overrides))
    groups = {key.lstrip("~").partition("@")[0].partition(".")[0] for key in keys if set(key) & set(".@~")}
    if any("@teacher" in key for key in keys):
        groups.add("teacher")
    return groups | {"loss"} if "pair" in groups else groups


def _experiment(composed: Composed) -> tuple[str, ...]:
    chosen = composed.choices.get("experiment", "null")
    return () if chosen in ("null", "None") else (f"experiment={chosen}",)


def _name(option: str, node: Mapping[str, Any], preset: Mapping[str, Any]) -> str:
    """The option and what was changed in it; a class or function of one's own has its own name instead."""
    target = str(node.get("_target_"))
    if target != str(preset.get("_target_")):
        changes = differing(node, {**preset, "_target_": node.get("_target_")})
        return " ".join([target.rpartition(".")[2], *changes])
    return " ".join([option, *differing(node, preset), *(f"~{key}" for key in preset if key not in node)])


def differing(config: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """`key=value` for every value of `config` that `other` lacks or has otherwise."""
    for key, value in config.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and isinstance(other.get(key), Mapping):
            yield from differing(value, other[key], where)
        elif _plain(value) != _plain(other.get(key)):
            yield f"{where}={value:g}" if isinstance(value, float) else f"{where}={value}"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")  # as in run ids
    return list(value) if isinstance(value, tuple) else value
