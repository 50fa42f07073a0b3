"""The presets and how Hydra composes them: options of groups, jobs of a sweep, the configuration of one job."""

import copy
import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from distill.config.check import reduce_alpha
from distill.config.compose.composer import (
    REFUSALS,
    Composed,
    Composer,
    first_line,
    forget_replaced,
    parse,
    plain,
)
from distill.config.faults import Fault, Refused, correction, key_of, nearest

MOST_JOBS = 10_000  # of a sweep
PATHS = (
    "dataset.npz",
    "dataset.root",
    "dataset.shards",
    "runs_dir",
    "teacher.run",
    "teacher.weights",
    "student.weights",
)
UNCHOSEN = "None"  # the choice of a group whose default is null
TABLES = "table"  # configs/table: published numbers as plain data, no group
# the nodes that presets fill: they cannot be checked while an option is wrong
FILLED = frozenset({"dataset", "student", "teacher", "loss", "recipe", "pair"})

Nodes = dict[str, dict[str, Any]]
_NODES: dict[Path | None, dict[tuple[str, ...], Nodes]] = {}  # nodes of presets, by the user's own folder


class Presets:
    """Shipped presets, and a user's own from `config_dir`, behind Hydra's grammar."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self.composer = Composer(config_dir)
        self._loader = self.composer.loader
        self._config_dir = config_dir
        self._parsed: dict[str, tuple[Override | None, list[Fault]]] = {}
        self._nodes = _NODES.setdefault(config_dir and config_dir.resolve(), {})
        self._group_names = frozenset(self._loader.list_groups("")) - {"hydra", TABLES}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The options of every group, those of nested groups as `ablation/mean_only`."""
        return {group: self.options(group) for group in sorted(self._group_names)}

    def options(self, group: str) -> list[str]:
        """The options of a group."""
        known = self.composer.repository.options
        if group not in known:
            known[group] = sorted(set(self._found(group)))
        return known[group]

    def parse(self, overrides: Sequence[str]) -> tuple[list[Override], list[Fault]]:
        """Overrides by Hydra's grammar, and every fault that needs no composition.

        Of several overrides of one key the last counts. An option that does not exist is a fault of kind `option` whose
        key is the group.
        """
        parsed: list[Override] = []
        faults: list[Fault] = []
        for text in overrides:
            override, wrong = self._parse_one(text)
            faults += wrong
            if override is None:
                continue
            if override.key_or_group in ("experiment", "sweep") and override.value() is None:
                # Hydra's grammar cannot take a choice back: drop it here
                parsed = [o for o in parsed if o.key_or_group != override.key_or_group]
            elif not wrong:
                parsed = [o for o in parsed if _place(o) != _place(override)] + [override]  # the last one counts
        return parsed, faults

    def _parse_one(self, text: str) -> tuple[Override | None, list[Fault]]:
        if text not in self._parsed:
            try:
                override = copy.copy(parse(_as_text(text)))
            except (HydraException, ValueError) as error:
                self._parsed[text] = None, [_not_an_override(text, error)]
            else:
                override.config_loader = self._loader  # glob(...) takes the options from it
                self._parsed[text] = override, self._wrong_options(override)
        return self._parsed[text]

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

    def with_sweep(self, overrides: Sequence[Override], base: Composed) -> tuple[list[Override], list[Fault]]:
        """`overrides`, those that the `sweep` preset in `base` adds for other keys, and what is wrong with these."""
        sweep = base.config.get("sweep")
        params = sweep.get("params") if isinstance(sweep, Mapping) else None
        if not isinstance(params, Mapping):
            return list(overrides), []
        given = {_place(o) for o in overrides}
        words = [f"{key}={'null' if value is None else value}" for key, value in params.items()]
        added, faults = self.parse(words)
        return [*overrides, *(o for o in added if _place(o) not in given)], faults

    def text(self, override: Override) -> str:
        """An override for Hydra: values are forced (`++`), since our own check finds the keys that do not exist."""
        if override.type == OverrideType.DEL:
            return str(override.input_line)
        value = override.input_line.split("=", 1)[1] if override.input_line else ""
        return f"{self._key(override)}={value}"

    def is_group(self, override: Override) -> bool:
        """Whether the override chooses an option of a group rather than a value."""
        return override.key_or_group in self._group_names or override.key_or_group.startswith("hydra/")

    def compose(self, overrides: Sequence[str]) -> Composed:
        """Compose one job; whatever Hydra or an interpolation refuses is a fault."""
        try:
            return self.composer.job(overrides)[1]
        except REFUSALS as error:
            return Composed({}, {}, tuple(overrides), [self._explained(error, overrides)])

    def declared(self, commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The configurations of `distill train OVERRIDES`, with `alpha` reduced to weights and values not checked.

        Made for the cells of a table, which combine a few experiments with a few losses: each experiment is composed
        once, all losses together once, and a loss is then resolved in its experiment. Where an experiment sets a value
        of the loss, the whole command is composed.

        Raises:
            Refused: a command cannot be composed, or an interpolation has no value.
        """
        parsed = []
        for overrides in commands:
            found, faults = self.parse(overrides)
            if faults:
                raise Refused(faults)
            texts = [(override.key_or_group.partition(".")[0] == "loss", self.text(override)) for override in found]
            parsed.append(
                tuple(tuple(text for is_loss, text in texts if is_loss is wanted) for wanted in (True, False))
            )
        distinct = dict.fromkeys(loss for loss, _ in parsed if _moved(loss, "loss"))
        losses = {loss: f"loss_{i}" for i, loss in enumerate(distinct)}
        try:
            together = self.composer.config(
                ["loss=ce", *(text for loss, at in losses.items() for text in _moved(loss, at))]
            )
        except REFUSALS:  # a preset is broken: the command that uses it raises
            losses, together = {}, self.composer.config(["loss=ce"])
        shared: dict[tuple[str, ...], tuple[DictConfig, Composed]] = {}
        return [self._declared(loss, rest, together, losses, shared) for loss, rest in parsed]

    def _declared(
        self,
        loss: tuple[str, ...],
        rest: tuple[str, ...],
        together: DictConfig,
        losses: Mapping[tuple[str, ...], str],
        shared: dict[tuple[str, ...], tuple[DictConfig, Composed]],
    ) -> dict[str, Any]:
        if rest not in shared:
            shared[rest] = self._composed([*rest, "loss=ce"])
            OmegaConf.set_struct(shared[rest][0], False)
        root, composed = shared[rest]
        config, faults = dict(composed.config), list(composed.faults)
        if loss in losses and config["loss"] == OmegaConf.to_container(together["loss"]):
            root["loss"] = OmegaConf.to_container(together[losses[loss]], resolve=False)
            config["loss"] = plain(root, "loss", "loss", faults)
            option = next(text.partition("=")[2] for text in loss if text.startswith("loss="))
            forget_replaced(config, {*map(key_of, loss), *self.composer.own_keys({"loss": option})})
            root["loss"] = together["loss"]
        else:
            composed = self._composed([*rest, *loss])[1]
            config, faults = composed.config, composed.faults
        if not isinstance(config["loss"], Mapping):
            faults.append(
                Fault("loss", "type", f"the loss must be a mapping, got {config['loss']!r}: {' '.join(loss)}")
            )
        if not faults:
            given = (key_of(override).removeprefix("loss.") for override in loss)
            config["loss"] = reduce_alpha(config["loss"], given, faults, option=composed.choices.get("loss", "?"))
        if faults:
            raise Refused(faults)
        return config

    def _composed(self, overrides: Sequence[str]) -> tuple[DictConfig, Composed]:
        """A composition as Hydra made it, and as plain values. Raises Refused."""
        try:
            return self.composer.job(overrides)
        except REFUSALS as error:
            raise Refused([self._explained(error, overrides)]) from error

    def salvaged(self, refused: Composed) -> Composed:
        """A job that could not be composed, made smaller until it can be, so that the rest of it is checked too.

        First it loses the overrides of Hydra's own node, then its presets.
        """
        ours = [o for o in refused.overrides if not o.startswith("hydra")]
        values = [o for o in refused.overrides if o.startswith("++")]
        for overrides, uncertain in ((ours, frozenset[str]()), (values, FILLED)):
            rest = self.compose(overrides)
            if rest.config:
                return replace(rest, faults=[*refused.faults, *rest.faults], uncertain=uncertain)
        return refused

    def nodes(self, options: Mapping[str, str], base: tuple[str, ...] = ()) -> Nodes:
        """The nodes that `options` alone give on top of the `base` overrides, by group.

        For a teacher it is the node of its network; `loss.alpha` is left out.
        """
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

    def _key(self, override: Override) -> str:
        if self.is_group(override) or override.key_or_group.startswith("hydra."):
            return override.get_key_element()
        return f"++{override.key_or_group}"

    def _found(self, group: str) -> Iterator[str]:
        repository = self.composer.repository
        options = repository.get_group_options(group, ObjectType.CONFIG)
        # Hydra also lists .yml files, which it cannot compose
        yield from (option for option in options if repository.config_exists(f"{group}/{option}"))
        for inner in repository.get_group_options(group, ObjectType.GROUP):
            yield from (f"{inner}/{option}" for option in self._found(f"{group}/{inner}"))

    def _explained(self, error: Exception, overrides: Sequence[str]) -> Fault:
        """Hydra's refusal, with the nearest right name where a preset names an option or group that does not exist.

        Hydra raises one class of error for all of these, so its message has to be read.
        """
        text = str(error)
        option = re.search(r"Could not (?:find|load) '([^']*)'", text)
        group = re.search(r"In '(.*)': Could not override '(.*)'\. No match", text)
        if option and "/" in option[1]:
            top, _, name = option[1].partition("/")
            if top not in self.groups:  # hydra/launcher
                top, _, name = option[1].rpartition("/")
            known = self.groups.get(top) or self._loader.get_group_options(top, ObjectType.CONFIG)
            unknown = f"{top}={name}"
            return Fault(top, "option", correction(unknown) or f"{unknown} does not exist{nearest(name, known)}")
        if group:
            near = nearest(group[2], self.groups)
            return Fault("", "option", f"{group[1]} overrides {group[2]}, which is not a group{near}")
        if twice := re.match(r"Multiple values for (.+?)\. To|(\S+) appears more than once", text):
            name = twice[1] or twice[2]
            return Fault("", "option", f"{name} is chosen already: write {name}=NAME, without the +")
        if deleted := re.match(r"Could not delete from config\. '(.*)' does not exist", text):
            return self._not_deleted(deleted[1], overrides)
        key = re.match(r"Could not override '(hydra\..*)\.(.*)'", text)
        if key:
            path = f"{key[1]}.{key[2]}"
            node = OmegaConf.select(self.composer.whole([o for o in overrides if not o.startswith(path)]), key[1])
            return Fault(path, "key", f"{path} is not a key{nearest(key[2], list(node or ()))}")
        if isinstance(error, RecursionError):
            return Fault("", "option", "a preset includes itself: build on another by `defaults: [/GROUP/NAME@_here_]`")
        if isinstance(error, YAMLError):
            return Fault("", "syntax", "a preset is not valid YAML: " + " ".join(text.split()))
        return Fault("", "value", first_line(error))

    def _not_deleted(self, key: str, overrides: Sequence[str]) -> Fault:
        """Why Hydra could not delete a key: it does not exist, or it is null."""
        where, _, name = key.rpartition(".")
        kept = [text for text in overrides if not text.startswith("~")]
        node = OmegaConf.select(self.composer.whole(kept), where) if where else self.composer.whole(kept)
        if name in (node or ()):
            return Fault("", "key", f"~{key}: it has no value to delete: set {key}=null instead")
        return Fault("", "key", f"~{key}: {key} is not a key{nearest(name, list(node or ()))}")

    def _wrong_options(self, override: Override) -> list[Fault]:
        group = override.key_or_group
        if not group:
            return [Fault("", "syntax", f"{override.input_line!r} is not KEY=VALUE: the key is missing")]
        if group == TABLES:
            value = override.input_line.partition("=")[2] if override.input_line else "NAME"
            text = (
                f"table={value} is not part of a run: `distill table table={value}` shows that published table, "
                f"`distill fill table={value}` trains its cells"
            )
            return [Fault("table", "key", text)]
        swept = "hydra.sweeper.params"
        if group.startswith("hydra.") and (ignored := correction(swept if group.startswith(swept) else group)):
            return [Fault(group, "key", ignored)]
        if group not in self._group_names and override.value() == "":
            text = f"{group}= is empty (an unset variable?): give it a value, or leave it out"
            return [Fault(group, "syntax", text)]
        if override.is_sweep_override() and (endless := _endless(override)):
            return [Fault(group, "value", endless)]
        if (
            override.is_sweep_override()
            and group not in self._group_names
            and not list(override.sweep_string_iterator())
        ):
            return [Fault(group, "value", f"{override.input_line} names no values: list them, as in {group}=1,2,4")]
        if group not in self._group_names or override.type == OverrideType.DEL:
            return []
        known = self.options(group)
        if override.is_sweep_override():
            values = list(override.sweep_string_iterator())
            if not values:
                text = f"{override.input_line} matches no option: there are {', '.join(known)}"
                return [Fault(group, "option", text)]
        else:
            values = [str(override.input_line).split("=", 1)[1]]
        return [
            Fault(group, "option", f"{group}={value} does not exist{self._own_preset(group, value)}")
            for value in values
            if value not in known and not (value == "null" and group in ("experiment", "sweep"))
        ]

    def _own_preset(self, group: str, option: str) -> str:
        """The end of the sentence about an option that does not exist: perhaps --config-dir is missing."""
        near = nearest(option, self.options(group))
        if self._config_dir is not None:
            return near
        path = f"{group}/{option}.yaml"
        folders = [folder for folder in (Path(), *Path().glob("*/")) if os.path.isfile(folder / path)]
        if folders:
            return f" among the presets of distill, but {folders[0] / path} does: add --config-dir {folders[0]}"
        is_typo = difflib.get_close_matches(option.casefold(), self.options(group), n=1, cutoff=0.8)
        hint = " If it is a preset of your own, add --config-dir DIR"
        return near if is_typo else f"{near}{'' if near.endswith('?') else '.'}{hint}"


def _not_an_override(text: str, error: Exception) -> Fault:
    """`'seed=[1' is not KEY=VALUE`: the messages of Hydra's parser list its own tokens, so they are left out."""
    key, equals, _ = text.lstrip("+").partition("=")
    remedy = "write KEY=VALUE, e.g. loss=kd"
    if equals and not isinstance(error, HydraException):
        remedy = first_line(error)
    elif equals:
        remedy = "close every bracket and quote, put one comma between values, and quote a text with other signs"
    return Fault(key if equals else "", "syntax", f"{text!r} is not KEY=VALUE: {remedy}")


def _as_text(override: str) -> str:
    """Quote a path or a run id, which need not follow Hydra's grammar: `data (1).npz`, or `12e4567`, a number there.

    A list of paths (`a.npz,b.npz`) stays a sweep, of such texts, unless a file has that very name.
    """
    key, _, value = override.partition("=")
    path = os.path.expanduser(value)
    of_hydra = (
        value in ("", "null") or value[0] in "'\"" or "${" in value or re.match(r"(choice|glob|sort|shuffle)\(", value)
    )
    if key.lstrip("+") not in PATHS or of_hydra:
        return override
    if "," in value and not os.path.exists(path):
        words = value.split(",")
        plain = value[0] not in "[{" and all(words) and not re.search("['\"]", value)
        return f"{key}={','.join(map(_quoted, words))}" if plain else override
    return f"{key}={_quoted(value)}"


def _quoted(path: str) -> str:
    escaped = os.path.expanduser(path).replace("'", "\\'")
    return path if path == "null" else f"'{escaped}'"


def _endless(override: Override) -> str | None:
    """Why the values of a sweep cannot be listed: an interval, a range without an end, or far too many."""
    values: Any = override.value()
    name, _, text = (override.input_line or "").partition("=")
    if override.is_interval_sweep():
        return f"{name}={text} names no values: list them, as in {name}=1,2,4, or search an interval with sweep=optuna"
    if not isinstance(values, RangeSweep):
        return None
    start, stop, step = (float(each or 0) for each in (values.start, values.stop, values.step))
    if step == 0 or not all(map(math.isfinite, (start, stop, step))):
        return f"{name}={text} has no end: write range(START,STOP,STEP) with finite numbers and a step other than 0"
    if abs(stop - start) / abs(step) > MOST_JOBS:
        return f"{name}={text} names more than {MOST_JOBS:,} values: choose fewer"
    return None


def _without_alpha(node: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_alpha(v) if isinstance(v, Mapping) else v for k, v in node.items() if k != "alpha"}


def _moved(loss: Sequence[str], at: str) -> list[str]:
    """Overrides of the loss for a loss that stands at the key `at`; none where they do more than choose and set."""
    choice = [f"+loss@{at}={text.partition('=')[2]}" for text in loss if text.startswith("loss=")]
    values = [text.replace("++loss.", f"++{at}.", 1) for text in loss if text.startswith("++loss.")]
    return [*choice, *values] if len(choice) == 1 and len(choice) + len(values) == len(loss) else []


def _place(override: Override) -> tuple[str, str | None]:
    return override.key_or_group, override.package
