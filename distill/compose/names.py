"""What people call a run's parts: the option chosen, and what was changed in it."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill.compose.presets import Composed, Presets

GROUPS = ("dataset", "student", "teacher", "loss", "recipe")


def run_names(composed: Composed, config: Mapping[str, Any], presets: Presets) -> dict[str, str]:
    """`{"loss": "kd temperature=3", ...}`: a preset's name only where the node is that preset's."""
    choices, base = composed.choices, _experiment(composed)
    names = {}
    for group in GROUPS:
        option = choices.get(group, "?")
        node = config[group] if group != "teacher" else (config["teacher"] or {}).get("network")
        names[group] = option if node is None else _name(group, option, node, base, presets)
    return names


def recipe_name(composed: Composed, recipe: Mapping[str, Any], presets: Presets) -> str:
    """The name of a recipe node made from the chosen option: a teacher's own."""
    return _name("recipe", composed.choices.get("recipe", "?"), recipe, [], presets)


def _experiment(composed: Composed) -> list[str]:
    chosen = composed.choices.get("experiment", "null")
    return [] if chosen in ("null", "None") else [f"experiment={chosen}"]


def _name(group: str, option: str, node: Mapping[str, Any], base: list[str], presets: Presets) -> str:
    preset = presets.node(group, option, tuple(base))
    changes = list(differing(node, preset))
    if not changes and not set(preset) - set(node):
        return option
    if group == "loss":
        for other in presets.groups["loss"]:
            content = presets.node(group, other, tuple(base))
            if "_target_" in content and not list(differing(node, content)) and set(node) == set(content):
                return other
    return " ".join([option, *changes])


def differing(config: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """`key=value` for every value of `config` that `other` lacks or has otherwise."""
    for key, value in config.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and isinstance(other.get(key), Mapping):
            yield from differing(value, other[key], where)
        elif _plain(value) != _plain(other.get(key)):
            yield f"{where}={value:g}" if isinstance(value, float) else f"{where}={value}"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
