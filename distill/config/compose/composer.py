"""Hydra behind one call: overrides in, the configuration of one job out."""

import copy
import pickle
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.defaults_list import Overrides, create_defaults_list
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import YAMLError

from distill.config import configs_dir
from distill.config.check import MISSING, RESERVED, UNRESOLVED, resolve, signature
from distill.config.faults import Fault, Refused, key_of, paths_in

ROOT = "train"  # all presets of a run
LAUNCH = "launch"  # the same with Hydra's own settings
OWN = "command-line"  # where Hydra says a preset of the user's own comes from
REFUSALS = (HydraException, OmegaConfBaseException, YAMLError, RecursionError)
_PLUGINS = "hydra._internal.core_plugins"
BASIC = {  # Hydra's launcher and sweeper of a command that chooses none
    "launcher": {"_target_": f"{_PLUGINS}.basic_launcher.BasicLauncher"},
    "sweeper": {"_target_": f"{_PLUGINS}.basic_sweeper.BasicSweeper", "max_batch_size": None, "params": None},
}


@dataclass(frozen=True)
class Composed:
    """One job as Hydra composed it.

    config     the whole configuration as plain values, without Hydra's own node
    choices    the chosen option of each group
    overrides  what it was composed from
    faults     what Hydra or an interpolation refused
    uncertain  nodes that are not those of the command, because an option does not exist: they are not checked
    launching  the nodes of Hydra's launcher and sweeper
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    faults: list[Fault] = field(default_factory=list)
    uncertain: frozenset[str] = frozenset()
    launching: Mapping[str, Any] = field(default_factory=dict)


def plain(node: Any, key: Any, path: str, faults: list[Fault]) -> Any:
    """`node[key]` as plain values; an interpolation that cannot be resolved is added to `faults`."""
    if OmegaConf.is_missing(node, key):
        return MISSING
    try:
        value = node[key]
    except InterpolationToMissingValueError:
        unresolved: Any = OmegaConf.to_container(node, resolve=False)
        remedy = f"add experiment=NAME, or set {path}"
        text = f"{path} takes its value from {unresolved[key]}, which an experiment fills: {remedy}"
        faults.append(Fault(path, "missing", text))
        return UNRESOLVED
    except OmegaConfBaseException as error:
        faults.append(Fault(path, "value", f"{path}: {first_line(error)}"))
        return UNRESOLVED
    if isinstance(value, DictConfig):
        return {str(k): plain(value, k, f"{path}.{k!s}", faults) for k in value}
    if isinstance(value, ListConfig):
        return [plain(value, i, f"{path}[{i}]", faults) for i in range(len(value))]
    return value


def forget_replaced(config: dict[str, Any], given: Collection[str]) -> None:
    """Where the user has replaced a `_target_`, drop the arguments that it had and that the new one does not take.

    What the user sets stays, so that a wrong key is a fault. `given` are the keys that the user sets.
    """
    for path in sorted(key.removesuffix("._target_") for key in given if key.endswith("._target_")):
        node: Any = config
        for key in path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        kept = {key.removeprefix(f"{path}.").partition(".")[0] for key in given if key.startswith(f"{path}.")}
        left = [key for key in node if key not in kept | {*RESERVED}]
        if not left:
            continue
        try:
            takes = signature(resolve(str(node["_target_"])))
        except Refused:  # reported when the node is checked
            continue
        for key in () if takes.open_ended else [key for key in left if key not in takes.annotations]:
            del node[key]


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class ReadOnce(ConfigRepository):
    """Hydra's repository of presets with every file parsed once; each job gets a copy, since composing changes it.

    It is a private part of Hydra: without it every job parses every file again, and composing an experiment
    of CIFAR-100 takes more than twice as long.

    read      the presets, pickled: a copy takes half as long as with deepcopy
    options   the names of each group's options
    combined  by the groups' options that a command chooses: these presets as one configuration, before any value of
              the command is set in it, with the option of each group, pickled
    """

    read: dict[str, bytes]
    options: dict[str, list[str]]
    combined: dict[tuple[str | None, ...], bytes]

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Read from another search path."""
        super().initialize_sources(config_search_path)
        self.read, self.options, self.combined = {}, {}, {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the preset at that path, None where there is none."""
        if config_path not in self.read:
            self.read[config_path] = pickle.dumps(super().load_config(config_path))
        found: ConfigResult | None = pickle.loads(self.read[config_path])
        return found

    def __deepcopy__(self, memo: dict[int, object]) -> "ReadOnce":
        # Hydra takes a copy for every job, to change its sources where hydra.searchpath names others
        return copy.copy(self)


_SHIPPED: dict[Path, ReadOnce] = {}  # the repository of the shipped presets alone, by their folder


@lru_cache(maxsize=10_000)
def parse(override: str) -> Override:
    """An override by Hydra's grammar. Raises HydraException, or ValueError for an integer of thousands of digits."""
    return OverridesParser.create().parse_override(override)


class Composer:
    """Hydra's loader of the shipped presets, and of a user's own from `config_dir`."""

    def __init__(self, config_dir: Path | None) -> None:
        GlobalHydra.instance().clear()
        Plugins.instance()  # registers Hydra's readers of pkg:// and file://, and the launchers
        path = ConfigSearchPathImpl()
        path.append("hydra", "pkg://hydra.conf")
        path.append("distill", f"file://{configs_dir()}")
        if config_dir is not None:
            path.append(OWN, f"file://{config_dir.resolve()}")
        path.append("schema", "structured://")  # Hydra's own node lives in its config store
        self.hydra = Hydra.create_main_hydra2(task_name="distill", config_search_path=path)
        self.loader = self.hydra.config_loader
        assert isinstance(self.loader, ConfigLoaderImpl)
        self.repository = ReadOnce(path)
        if config_dir is None:
            self.repository = _SHIPPED.setdefault(configs_dir(), self.repository)
        self.loader.repository = self.repository
        self._has_own = config_dir is not None
        self._launching: dict[tuple[str, ...], Mapping[str, Any]] = {(): BASIC}

    def job(self, overrides: Sequence[str]) -> tuple[DictConfig, Composed]:
        """One job, as Hydra's configuration and as plain values. Raises one of REFUSALS."""
        of_hydra = tuple(text for text in overrides if text.startswith("hydra"))
        with suppress(*REFUSALS):  # Hydra refuses the whole below
            config, choices = self._without_hydra([text for text in overrides if text not in of_hydra])
            composed = self._composed(config, choices, overrides, self._launcher(of_hydra))
            if "hydra" not in config and not composed.faults:
                return config, composed
        whole = self.whole(overrides)
        return whole, self.from_hydra(whole, whole.hydra, overrides)

    def from_hydra(self, config: DictConfig, hydra: DictConfig, overrides: Sequence[str]) -> Composed:
        """A composition as plain values; interpolations are resolved, and those that cannot be become faults."""
        launching = {key: OmegaConf.to_container(hydra[key], resolve=False) for key in BASIC}
        return self._composed(config, hydra.runtime.choices, overrides, launching)

    def _composed(
        self, config: DictConfig, choices: Mapping[Any, Any], overrides: Sequence[str], launching: Mapping[str, Any]
    ) -> Composed:
        faults: list[Fault] = []
        chosen = {str(k): str(v) for k, v in choices.items() if not str(k).startswith("hydra/")}
        values = {str(key): plain(config, key, str(key), faults) for key in config if key != "hydra"}
        forget_replaced(values, {*map(key_of, overrides), *self.own_keys(chosen)})
        return Composed(values, chosen, tuple(overrides), faults, launching=launching)

    def own_keys(self, choices: Mapping[str, str]) -> set[str]:
        """The keys that the chosen presets of the user's own folder set themselves, without those they inherit."""
        found: set[str] = set()
        for choice, option in choices.items() if self._has_own else ():
            group, _, package = choice.partition("@")
            preset = self.repository.load_config(f"{group}/{option}")
            if preset is not None and preset.provider == OWN:
                values: Any = OmegaConf.to_container(preset.config, resolve=False)
                place = preset.header.get("package") or package or group
                if isinstance(values, dict):
                    found |= set(paths_in(values, "" if place == "_global_" else f"{place}."))
        return found

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job that has no overrides of Hydra's node. Raises one of REFUSALS."""
        return self._without_hydra(overrides)[0]

    def whole(self, overrides: Sequence[str]) -> DictConfig:
        """A job with Hydra's own node. Raises one of REFUSALS."""
        return self.loader.load_configuration(LAUNCH, list(overrides), run_mode=RunMode.MULTIRUN)

    def _launcher(self, overrides: tuple[str, ...]) -> Mapping[str, Any]:
        """Hydra's launcher and sweeper as these overrides of its node choose them."""
        if overrides not in self._launching:
            hydra = self.whole(overrides).hydra
            self._launching[overrides] = self.from_hydra(OmegaConf.create(), hydra, overrides).launching
        return self._launching[overrides]

    def _without_hydra(self, overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, Any]]:
        """Configuration and choices, as Hydra composes them but for its own node, which takes two thirds of the time.

        Jobs that choose the same options differ in values alone: their presets are combined once.
        A preset that chooses Hydra's launcher is refused; one that sets a value of it leaves a node `hydra`.
        """
        loader: Any = self.loader
        parsed, repository = [parse(text) for text in overrides], CachingConfigRepository(self.repository)
        values = Overrides(repository, parsed).config_overrides
        options = [override for override in parsed if not any(override is value for value in values)]
        key = tuple(override.input_line for override in options)
        if key not in self.repository.combined:
            found = create_defaults_list(
                repo=repository, config_name=ROOT, overrides_list=options, prepend_hydra=False, skip_missing=True
            )
            config = loader._compose_config_from_defaults_list(defaults=found.defaults, repo=repository)
            OmegaConf.set_struct(config, True)
            self.repository.combined[key] = pickle.dumps((config, found.overrides.known_choices))
        config, choices = pickle.loads(self.repository.combined[key])
        loader._apply_overrides_to_config(values, config)
        return config, choices
