"""Candidates for completion from the presets: group options, keys of the configuration, values of a known kind."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from distill.cli.train_help import GROUPS, group_options
from distill.config.schema import Root

LAUNCHERS = ("basic", "cohort")
DEVICES = ("auto", "cpu", "cuda")


def keys(words: Sequence[str], typed: str, *, config_dir: Path | None) -> list[str]:
    """Keys a level at a time, `recipe.` before `recipe.epochs=`, for the presets that `words` choose."""
    sign = typed[: len(typed) - len(typed.lstrip("+~"))]
    plain = typed.removeprefix(sign)
    path, dot, leaf = plain.rpartition(".")
    if not dot:
        return [f"{sign}{key}" for key in _roots(plain)]
    node: Any = _compose(tuple(words), config_dir)
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping):
        return []
    shown = [key for key in node if not key.startswith("_") or leaf.startswith("_")]
    return [f"{sign}{path}.{key}{'.' if isinstance(node[key], Mapping) else '='}" for key in shown]


def values(words: Sequence[str], key: str, *, config_dir: Path | None) -> list[str]:
    """The options of a group, the words of a key that has only a few, or nothing."""
    plain = key.lstrip("+~")
    group = plain.partition("@")[0]
    if group in GROUPS:
        return group_options(group, config_dir)
    if plain == "hydra/launcher":
        return list(LAUNCHERS)
    if plain == "engine.device":
        return list(DEVICES)
    if choices := _literals(plain):
        return choices
    node: Any = _compose(tuple(words), config_dir)
    for part in plain.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return ["true", "false"] if isinstance(node, bool) else []


def _roots(typed: str) -> list[str]:
    hints = get_type_hints(Root)
    plain = [f"{key}=" for key, hint in hints.items() if not _is_node(hint)]
    nodes = [f"{key}." for key, hint in hints.items() if _is_node(hint) and key != "sweep"]
    hydra = ["hydra/launcher="] if typed else []  # rarely meant
    return [*(f"{group}=" for group in GROUPS), *plain, *nodes, *hydra]


def _is_node(hint: Any) -> bool:
    return hint not in (int, float, str, bool) and get_origin(hint) is not Literal


def _literals(key: str) -> list[str]:
    """`fp32`, `bf16`, `auto` for `precision`: the words that the schema admits."""
    hint: Any = Root
    for part in key.split("."):
        hint = get_type_hints(hint).get(part) if is_dataclass(hint) else None
    kinds = (hint, *get_args(hint))
    words = [str(value) for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    return [*words, "true", "false"] if words and bool in kinds else words


@cache
def _compose(words: tuple[str, ...], config_dir: Path | None) -> Mapping[str, Any]:
    """The first job of what is typed so far; what is wrong with it is left out."""
    from distill.config.presets import Presets  # with Hydra, for which the options of a group need not wait

    presets = Presets(config_dir)
    overrides, _ = presets.parse([word for word in words if "=" in word and not word.startswith("-")])
    groups = [override for override in overrides if presets.is_group(override)]
    for chosen in (overrides, groups, []):
        composed = presets.compose(presets.jobs(chosen)[0])
        if composed.config:
            return composed.config
    return {}
