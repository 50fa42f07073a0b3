"""What a cell's overrides resolve to, read from the presets' own files: without Hydra, which takes a second to import.

Of Hydra's grammar it knows what tables use: `group=option`, `recipe@teacher.recipe=option`, `key.path=value`,
experiments that override groups and set values, presets that build on others, and `${pair.KEY}`.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill.config import configs_dir
from distill.runs.target_names import with_current_names
from distill.tables.published import parse_yaml

GROUPS = ("dataset", "student", "teacher", "loss", "recipe")
TEACHER_RECIPE = "recipe@teacher.recipe"

Node = dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """The nodes that a finished run must have: those of its `config.yaml` that can change its numbers."""

    dataset: Node
    student: Node
    loss: Node
    recipe: Node
    teacher: Node
    teacher_loss: Node
    teacher_recipe: Node


class Presets:
    """The presets of the shipped folder and of the user's own, each file read once."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self._folders = [configs_dir(), *([config_dir] if config_dir else [])]
        self._files: dict[tuple[str, str], Node] = {}

    def declared(self, overrides: Sequence[str]) -> Declared:
        """What `distill train OVERRIDES` trains. Raises ValueError with a sentence where it cannot be told."""
        choices, body, values = self._sorted(overrides)
        missing = [group for group in GROUPS if group not in choices]
        if missing:
            raise ValueError(f"{' '.join(overrides)} chooses no {missing[0]}: add an experiment, or {missing[0]}=NAME")
        config = {group: self.node(group, choices[group]) for group in GROUPS}
        config["teacher"]["recipe"] = self.node("recipe", choices.get(TEACHER_RECIPE, choices["recipe"]))
        config["teacher"]["loss"] = self.node("loss", "ce")
        config = _merged(config, body)
        for path, value in values:
            _set(config, path, value)
        config = with_current_names(_filled(config, config.get("pair") or {}))
        teacher = config["teacher"]
        return Declared(
            dataset=config["dataset"],
            student=config["student"],
            loss=_weighted(config["loss"]),
            recipe=config["recipe"],
            teacher=teacher.get("network") or {},
            teacher_loss=teacher["loss"],
            teacher_recipe=teacher["recipe"],
        )

    def node(self, group: str, option: str) -> Node:
        """One option of a group with what it builds on, as a new mapping. Raises ValueError: there is none."""
        content = copy.deepcopy(self._file(group, option))
        made: Node = {}
        for entry in content.pop("defaults", ()):
            made = _merged(made, self._base(group, entry))
        return _merged(made, content)

    def _base(self, group: str, entry: str | Mapping[str, str]) -> Node:
        """What an entry of a defaults list brings: a sibling, or an option of a group under a key of its own."""
        if isinstance(entry, str):
            path = entry.removesuffix("@_here_")
            if path == "_self_":
                return {}
            of, _, option = path.lstrip("/").partition("/") if path.startswith("/") else (group, "", path)
            return self.node(of, option)
        ((key, option),) = entry.items()
        of, _, place = key.lstrip("/").partition("@")
        return {place: self.node(of, option)} if place not in ("", "_here_") else self.node(of, option)

    def _sorted(self, overrides: Sequence[str]) -> tuple[dict[str, str], Node, list[tuple[str, str]]]:
        """The option of each group, the values that an experiment sets, and those of the command."""
        choices: dict[str, str] = {}
        body: Node = {}
        values = []
        for override in overrides:
            key, _, value = override.partition("=")
            if key == "experiment":
                body = copy.deepcopy(self._file("experiment", value))
                choices |= dict(_overridden(body.pop("defaults", ())))
        for override in overrides:
            key, _, value = override.partition("=")
            if key in (*GROUPS, TEACHER_RECIPE):
                choices[key] = value
            elif key != "experiment":
                values.append((key, value))
        return choices, body, values

    def _file(self, group: str, option: str) -> Node:
        if (group, option) not in self._files:
            paths = [folder / group / f"{option}.yaml" for folder in self._folders]
            path = next((path for path in paths if path.is_file()), None)
            if path is None:
                raise ValueError(f"{group}={option} does not exist: `distill train --help` lists the presets")
            self._files[group, option] = _read(path)
        return self._files[group, option]


def _read(path: Path) -> Node:
    """The content of a preset's file. Raises ValueError with a sentence where it is none."""
    try:
        content = parse_yaml(path.read_bytes()) or {}
    except (yaml.YAMLError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a mapping, got {type(content).__name__}")
    return content


def _overridden(entries: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        for key, option in entry.items() if isinstance(entry, Mapping) else ():
            yield key.removeprefix("override ").lstrip("/"), option


def _merged(base: Node, over: Mapping[str, Any]) -> Node:
    made = dict(base)
    for key, value in over.items():
        there = made.get(key)
        made[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, Mapping) else value
    return made


def _set(config: Node, path: str, text: str) -> None:
    """Put the value that `text` spells at a dotted path. Raises ValueError with a sentence where that cannot be."""
    *parents, last = path.lstrip("+").split(".")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}={text} cannot be read: {str(error).splitlines()[0]}") from error
    for parent in parents:
        config = config.setdefault(parent, {})
        if not isinstance(config, dict):
            raise ValueError(f"{path}={text} sets a key inside of {parent}, which is a value: name {parent} itself")
    config[last] = value


def _weighted(loss: Node) -> Node:
    """The loss, and those inside it, with the two weights that `alpha` stands for, as runs record them."""
    made = {key: _weighted(value) if isinstance(value, dict) else value for key, value in loss.items()}
    alpha = made.pop("alpha", None)
    if not isinstance(alpha, int | float):
        return made
    return made | {"ce_weight": float(f"{1.0 - alpha:.12g}"), "kd_weight": float(alpha)}


def _filled(node: Any, pair: Mapping[str, Any]) -> Any:
    """The node with `${pair.KEY}` in it replaced."""
    if isinstance(node, dict):
        return {key: _filled(value, pair) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, pair) for value in node]
    found = re.fullmatch(r"\$\{pair\.(\w+)\}", node) if isinstance(node, str) else None
    if found is None:
        return node
    if found[1] not in pair:
        raise ValueError(f"pair.{found[1]} has no value here: choose an experiment that fills it")
    return pair[found[1]]
