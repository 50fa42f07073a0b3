"""The presets and how Hydra composes them: group options, jobs of a sweep, one job's configuration."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from distill.compose.check import MISSING, nearest
from distill.compose.locate import configs_dir

ROOT = "train"


@dataclass(frozen=True)
class Composed:
    """One job: its configuration as plain values, the chosen option of each group, the overrides that made it."""

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    faults: list[str] = field(default_factory=list)


class Presets:
    """Shipped presets, and a user's own from `config_dir`, behind Hydra's grammar."""

    def __init__(self, config_dir: Path | None = None) -> None:
        GlobalHydra.instance().clear()
        Plugins.instance()  # registers Hydra's readers of pkg:// and file://, and the launchers
        path = ConfigSearchPathImpl()
        path.append("hydra", "pkg://hydra.conf")
        path.append("distill", f"file://{configs_dir()}")
        if config_dir is not None:
            path.append("command-line", f"file://{config_dir.resolve()}")
        path.append("schema", "structured://")  # Hydra's own node lives in its config store
        self.hydra = Hydra.create_main_hydra2(task_name="distill", config_search_path=path)
        self._loader = self.hydra.config_loader
        self._nodes: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
        self.groups = {group: self._options(group) for group in self._loader.list_groups("") if group != "hydra"}

    def parse(self, overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
        """Overrides by Hydra's grammar, each with every fault that needs no composition."""
        parser = OverridesParser.create(config_loader=self._loader)
        parsed, faults = [], []
        for text in overrides:
            try:
                override = parser.parse_override(_as_text(text))
            except HydraException as error:
                faults.append(f"{text!r} is not KEY=VALUE: {_first_line(error)}")
                continue
            wrong = self._wrong_options(override)
            faults += wrong
            if not wrong:
                parsed.append(override)
        return parsed, faults

    def jobs(self, overrides: Sequence[Override]) -> list[list[str]]:
        """The override lists of a sweep, in the order in which Hydra's basic sweeper runs them."""
        lists: dict[str, list[str]] = {}
        for override in overrides:
            key = self._key(override)
            if override.is_sweep_override():
                lists[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                lists[key] = [self.text(override)]
        jobs: list[list[str]] = [[]]
        for options in lists.values():
            jobs = [[*job, option] for job in jobs for option in options]
        return jobs

    def with_sweep(self, overrides: Sequence[Override]) -> list[Override]:
        """`overrides` and what the chosen `sweep` preset adds; a key given by the user is not added again."""
        fixed = [o for o in overrides if not o.is_sweep_override()]
        params = self.compose([self.text(o) for o in fixed]).config.get("sweep", {}).get("params") or {}
        given = {_place(o) for o in overrides}
        added, _ = self.parse([f"{key}={value}" for key, value in params.items()])
        return [*overrides, *(o for o in added if _place(o) not in given)]

    def text(self, override: Override) -> str:
        """An override as handed to Hydra: values are forced, since our own check says what is a key."""
        if override.type == OverrideType.DEL:
            return str(override.input_line)
        value = override.input_line.split("=", 1)[1] if override.input_line else ""
        return f"{self._key(override)}={value}"

    def is_group(self, override: Override) -> bool:
        """Whether the override chooses an option of a group rather than a value."""
        return override.key_or_group in self.groups or override.key_or_group.startswith("hydra/")

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Compose one job; whatever Hydra or an interpolation refuses is a fault."""
        faults: list[str] = []
        try:
            composed = self._loader.load_configuration(ROOT, list(overrides), run_mode=RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException) as error:
            return Composed({}, {}, tuple(overrides), [_first_line(error)])
        return from_hydra(composed, composed.hydra, overrides, faults)

    def node(self, group: str, option: str, base: tuple[str, ...] = ()) -> dict[str, Any]:
        """What choosing `option` alone gives, upon `base` overrides: a teacher's network, a loss without `alpha`."""
        key = (group, option, base)
        if key not in self._nodes:
            node = self.compose([*base, f"{group}={option}"]).config.get(group) or {}
            if group == "teacher":
                node = node.get("network") or {}
            self._nodes[key] = {k: v for k, v in node.items() if (group, k) != ("loss", "alpha")}
        return self._nodes[key]

    def _key(self, override: Override) -> str:
        if self.is_group(override) or override.key_or_group.startswith("hydra."):
            return override.get_key_element()
        return f"++{override.key_or_group}"

    def _options(self, group: str) -> list[str]:
        options = list(self._loader.get_group_options(group, ObjectType.CONFIG))
        for inner in self._loader.get_group_options(group, ObjectType.GROUP):
            options += [f"{inner}/{option}" for option in self._options(f"{group}/{inner}")]
        return sorted(set(options))

    def _wrong_options(self, override: Override) -> list[str]:
        group = override.key_or_group
        if group not in self.groups or override.type == OverrideType.DEL:
            return []
        if override.is_sweep_override():
            values = list(override.sweep_string_iterator())
        else:
            values = [str(override.input_line).split("=", 1)[1]]
        return [
            f"{group}={value} does not exist{nearest(value, self.groups[group])}"
            for value in values
            if value not in self.groups[group] and value not in ("null", "")
        ]


def from_hydra(
    config: DictConfig, hydra: DictConfig, overrides: Sequence[str], faults: list[str] | None = None
) -> Composed:
    """A composition as plain values; interpolations are resolved, unfilled ones become faults."""
    faults = [] if faults is None else faults
    choices = {str(k): str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    with_values = {key: _plain(config, key, str(key), faults) for key in config if key != "hydra"}
    return Composed({str(k): v for k, v in with_values.items()}, choices, tuple(overrides), faults)


def _plain(node: Any, key: Any, path: str, faults: list[str]) -> Any:
    if OmegaConf.is_missing(node, key):
        return MISSING
    try:
        value = node[key]
    except InterpolationToMissingValueError:
        unresolved: Any = OmegaConf.to_container(node, resolve=False)
        wanted = unresolved[key]
        faults.append(f"{path} is {wanted}, which has no value here: choose an experiment that fills it, or set {path}")
        return None
    except OmegaConfBaseException as error:
        faults.append(f"{path}: {_first_line(error)}")
        return None
    if isinstance(value, DictConfig):
        return {str(k): _plain(value, k, f"{path}.{k!s}", faults) for k in value}
    if isinstance(value, ListConfig):
        return [_plain(value, i, f"{path}[{i}]", faults) for i in range(len(value))]
    return value


def _as_text(override: str) -> str:
    """A run id is text, also where it looks like a number (`12e4567`): Hydra would read that as one."""
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if key.lstrip("+") == "teacher.run" and value.isalnum() else override


def _place(override: Override) -> tuple[str, str | None]:
    return override.key_or_group, override.package


def _first_line(error: Exception) -> str:
    return str(error).strip().split(os.linesep)[0].split("\n")[0]
