"""The presets and how Hydra composes them: group options, jobs of a sweep, one job's configuration."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import YAMLError

from distill.config import configs_dir
from distill.config.check import MISSING, UNRESOLVED, nearest


@dataclass(frozen=True)
class Composed:
    """One job: its configuration as plain values, the chosen option of each group, the overrides that made it.

    `uncertain` are the nodes that are not what was asked for, because an option does not exist; `launching` is
    what Hydra's own node says about launcher and sweeper.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    faults: list[str] = field(default_factory=list)
    uncertain: frozenset[str] = frozenset()
    launching: Mapping[str, Any] = field(default_factory=dict)


def from_hydra(
    config: DictConfig, hydra: DictConfig, overrides: Sequence[str], faults: list[str] | None = None
) -> Composed:
    """A composition as plain values; interpolations are resolved, unfilled ones become faults."""
    faults = [] if faults is None else faults
    choices = {str(k): str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    with_values = {key: _plain(config, key, str(key), faults) for key in config if key != "hydra"}
    launching = {key: OmegaConf.to_container(hydra[key], resolve=False) for key in ("launcher", "sweeper")}
    plain = {str(k): v for k, v in with_values.items()}
    return Composed(plain, choices, tuple(overrides), faults, launching=launching)


def _plain(node: Any, key: Any, path: str, faults: list[str]) -> Any:
    if OmegaConf.is_missing(node, key):
        return MISSING
    try:
        value = node[key]
    except InterpolationToMissingValueError:
        unresolved: Any = OmegaConf.to_container(node, resolve=False)
        wanted = unresolved[key]
        faults.append(f"{path} is {wanted}, which has no value here: choose an experiment that fills it, or set {path}")
        return UNRESOLVED
    except OmegaConfBaseException as error:
        faults.append(f"{path}: {first_line(error)}")
        return UNRESOLVED
    if isinstance(value, DictConfig):
        return {str(k): _plain(value, k, f"{path}.{k!s}", faults) for k in value}
    if isinstance(value, ListConfig):
        return [_plain(value, i, f"{path}[{i}]", faults) for i in range(len(value))]
    return value


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class ReadOnce(ConfigRepository):
    """What was read is handed out as copies, since composing changes it; another search path is read anew."""

    _read: dict[str, ConfigResult | None]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Look where `config_search_path` says."""
        super().initialize_sources(config_search_path)
        self._read = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the preset at that path, None where there is none."""
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        return copy.deepcopy(self._read[config_path])

    def __deepcopy__(self, memo: dict[int, object]) -> "ReadOnce":
        # Hydra takes a copy for every job, to change its sources where hydra.searchpath names others
        return copy.copy(self)


ROOT = "train"
PUBLISHED = "table"  # configs/table: published numbers as plain data, no group
# what presets fill: nothing can be said about these while an option is wrong
FILLED = frozenset({"dataset", "student", "teacher", "loss", "recipe", "pair"})

Nodes = dict[str, dict[str, Any]]
_NODES: dict[Path | None, dict[tuple[str, ...], Nodes]] = {}  # of the presets themselves, by the user's folder


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
        assert isinstance(self._loader, ConfigLoaderImpl)
        self._loader.repository = self._repository = ReadOnce(path)
        self._nodes = _NODES.setdefault(config_dir and config_dir.resolve(), {})
        self._group_names = frozenset(self._loader.list_groups("")) - {"hydra", PUBLISHED}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The options of every group, those of nested groups as `ablation/mean_only`."""
        return {group: self._options(group) for group in sorted(self._group_names)}

    def parse(self, overrides: Sequence[str], wrong_groups: set[str] | None = None) -> tuple[list[Override], list[str]]:
        """Overrides by Hydra's grammar, and every fault that needs no composition.

        Of several overrides of one key the last counts. Groups whose option does not exist join `wrong_groups`.
        """
        parser = OverridesParser.create(config_loader=self._loader)
        parsed: list[Override] = []
        faults: list[str] = []
        for text in overrides:
            try:
                override = parser.parse_override(_as_text(text))
            except HydraException as error:
                faults.append(f"{text!r} is not KEY=VALUE: {first_line(error)}")
                continue
            override.config_loader = self._loader  # glob(...) asks it for the options
            wrong = self._wrong_options(override)
            faults += wrong
            if wrong and wrong_groups is not None:
                wrong_groups.add(override.key_or_group)
            if override.key_or_group in ("experiment", "sweep") and override.value() is None:
                # Hydra has no word for it: drop what was chosen before
                parsed = [o for o in parsed if o.key_or_group != override.key_or_group]
            elif not wrong:
                parsed = [o for o in parsed if _place(o) != _place(override)] + [override]  # the last one counts
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

    def with_sweep(self, overrides: Sequence[Override], base: Composed) -> list[Override]:
        """`overrides` and what the `sweep` preset in `base` adds; a key given by the user is not added again."""
        sweep = base.config.get("sweep")
        params = sweep.get("params") if isinstance(sweep, Mapping) else None
        if not isinstance(params, Mapping):
            return list(overrides)
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
        return override.key_or_group in self._group_names or override.key_or_group.startswith("hydra/")

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Compose one job; whatever Hydra or an interpolation refuses is a fault."""
        faults: list[str] = []
        try:
            composed = self._loader.load_configuration(ROOT, list(overrides), run_mode=RunMode.MULTIRUN)
        except (HydraException, OmegaConfBaseException, YAMLError, RecursionError) as error:
            return Composed({}, {}, tuple(overrides), [self._explained(error, overrides)])
        return from_hydra(composed, composed.hydra, overrides, faults)

    def salvaged(self, refused: Composed) -> Composed:
        """What can still be checked of a job that could not be composed, with its faults.

        The job without what it says to Hydra itself, else without its presets.
        """
        ours = [o for o in refused.overrides if not o.startswith("hydra")]
        values = [o for o in refused.overrides if o.startswith("++")]
        for overrides, uncertain in ((ours, frozenset[str]()), (values, FILLED)):
            rest = self.compose(overrides)
            if rest.config:
                return replace(rest, faults=[*refused.faults, *rest.faults], uncertain=uncertain)
        return refused

    def nodes(self, options: Mapping[str, str], base: tuple[str, ...] = ()) -> Nodes:
        """What choosing `options` alone gives, upon `base` overrides: of a teacher its network, no `loss.alpha`."""
        overrides = [*base, *(f"{group}={option}" for group, option in options.items())]
        key = tuple(overrides)
        if key not in self._nodes:
            config = self.compose(overrides).config
            found: Nodes = {group: config.get(group) or {} for group in options}
            if "teacher" in found:
                found["teacher"] = found["teacher"].get("network") or {}
            if "loss" in found:
                found["loss"] = _without_alpha(found["loss"])
            self._nodes[key] = found
        return self._nodes[key]

    def numbers(self, group: str, option: str) -> dict[str, float]:
        """The numbers that a preset's own file states, without composing it; none where it builds on others."""
        found = self._repository.load_config(config_path=f"{group}/{option}")
        if found is None or found.defaults_list:
            return {}
        content: Any = OmegaConf.to_container(found.config, resolve=False)
        return {str(key): float(value) for key, value in content.items() if isinstance(value, int | float)}

    def _key(self, override: Override) -> str:
        if self.is_group(override) or override.key_or_group.startswith("hydra."):
            return override.get_key_element()
        return f"++{override.key_or_group}"

    def _options(self, group: str) -> list[str]:
        options = list(self._loader.get_group_options(group, ObjectType.CONFIG))
        for inner in self._loader.get_group_options(group, ObjectType.GROUP):
            options += [f"{inner}/{option}" for option in self._options(f"{group}/{inner}")]
        return sorted(set(options))

    def _explained(self, error: Exception, overrides: Sequence[str]) -> str:
        """Hydra's sentence, with the nearest right name where a preset names an option or group that is not there."""
        text = str(error)
        option = re.search(r"Could not (?:find|load) '([^']*)'", text)
        group = re.search(r"In '(.*)': Could not override '(.*)'\. No match", text)
        if option and "/" in option[1]:
            top, _, name = option[1].partition("/")
            if top not in self.groups:  # hydra/launcher
                top, _, name = option[1].rpartition("/")
            known = self.groups.get(top) or self._loader.get_group_options(top, ObjectType.CONFIG)
            return f"{top}={name} does not exist{nearest(name, known)}"
        if group:
            return f"{group[1]} overrides {group[2]}, which is not a group{nearest(group[2], self.groups)}"
        key = re.match(r"Could not override '(hydra\..*)\.(.*)'", text)
        if key:
            rest = [o for o in overrides if not o.startswith(f"{key[1]}.{key[2]}")]
            node = OmegaConf.select(self._loader.load_configuration(ROOT, rest, run_mode=RunMode.MULTIRUN), key[1])
            return f"{key[1]}.{key[2]} is not a key{nearest(key[2], list(node or ()))}"
        if isinstance(error, RecursionError):
            return "a preset includes itself: build on another by `defaults: [/GROUP/NAME@_here_]`"
        if isinstance(error, YAMLError):
            return "a preset is not valid YAML: " + " ".join(text.split())
        return first_line(error)

    def _wrong_options(self, override: Override) -> list[str]:
        group = override.key_or_group
        if not group:
            return [f"{override.input_line!r} is not KEY=VALUE: the key is missing"]
        if group == PUBLISHED:
            value = override.input_line.partition("=")[2] if override.input_line else "NAME"
            return [
                f"table={value} is no part of a run: `distill table table={value}` shows that published table, "
                f"`distill fill table={value}` trains its cells"
            ]
        if group not in self._group_names or override.type == OverrideType.DEL:
            return []
        if override.is_sweep_override():
            values = list(override.sweep_string_iterator())
            if not values:
                return [f"{override.input_line} matches no option: there are {', '.join(self.groups[group])}"]
        else:
            values = [str(override.input_line).split("=", 1)[1]]
        return [
            f"{group}={value} does not exist{nearest(value, self.groups[group])}"
            for value in values
            if value not in self.groups[group] and not (value == "null" and group in ("experiment", "sweep"))
        ]


def _as_text(override: str) -> str:
    """A run id is text, also where it looks like a number (`12e4567`): Hydra would read that as one."""
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if key.lstrip("+") == "teacher.run" and value.isalnum() else override


def _without_alpha(node: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_alpha(v) if isinstance(v, Mapping) else v for k, v in node.items() if k != "alpha"}


def _place(override: Override) -> tuple[str, str | None]:
    return override.key_or_group, override.package
