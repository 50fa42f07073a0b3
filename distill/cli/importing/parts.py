"""What the command names: the network's node and the data set's, checked, and where the data lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.cli.grammar import CommandLine, UsageError
from distill.config.build import Refused
from distill.config.check import check_target
from distill.config.names import run_names
from distill.config.presets import Composed, Presets
from distill.config.rebuild import WITHOUT_DOWNLOAD
from distill.data import ImageDataset

GROUPS = ("student", "dataset")
PLACES = ("npz", "root", "download")
# how data sets say that nothing lies where they look
_ABSENT = ("set dataset.download=true", "there is no file")


@dataclass(frozen=True)
class Parts:
    """The checked nodes of those groups that the command names, what people call them, the folder of own presets."""

    nodes: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]
    config_dir: Path | None


def compose_parts(line: CommandLine, faults: list[str]) -> Parts:
    """Compose the groups that the command names; what is wrong with them is added to `faults`."""
    folder = line.options.get("--config-dir")
    config_dir = Path(folder) if folder else None
    presets = Presets(config_dir)
    wrong: set[str] = set()
    parsed, found = presets.parse(_overrides(line), wrong)
    several = [override for override in parsed if override.is_sweep_override()]
    faults += [*found, *(f"{o.input_line} names several values: choose one" for o in several)]
    job = presets.compose([presets.text(o) for o in parsed if o not in several])
    faults += [] if job.config else job.faults
    wrong |= {override.key_or_group.partition(".")[0] for override in several}
    nodes = {}
    for group in GROUPS:
        if group in line.pairs and group not in wrong and job.config:
            nodes[group] = _node(job, group, places(line), faults)
    return Parts(nodes, run_names(job, job.config, presets) if job.config and not faults else {}, config_dir)


def _overrides(line: CommandLine) -> list[str]:
    """The command's words for Hydra: not the places, whose paths need not follow its grammar."""
    own = [f"{group}={line.pairs[group]}" for group in GROUPS if group in line.pairs]
    aside = {f"dataset.{place}" for place in PLACES}
    return own + [f"{key}={value}" for key, value in line.pairs.items() if _is_value(key) and key not in aside]


def _is_value(key: str) -> bool:
    return key.partition(".")[0] in GROUPS and "." in key


def _node(job: Composed, group: str, given: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    node = dict(job.config.get(group) or {})
    faults += [fault for fault in job.faults if fault.startswith(group)]
    if group == "dataset":
        unknown = [place for place in given if place not in node]
        faults += [f"dataset.{place} is not a key of {job.choices['dataset']}: leave it out" for place in unknown]
        node = located(node, {place: value for place, value in given.items() if place in node})
    else:  # the file's weights replace whatever a network begins with
        node |= {key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}
    return check_target(node, group, faults)


def places(line: CommandLine) -> dict[str, Any]:
    """Where the command says that the data lie: of `npz`, `root` and `download` what is given."""
    given: dict[str, Any] = {key: line.pairs[f"dataset.{key}"] for key in PLACES if f"dataset.{key}" in line.pairs}
    return given | ({"download": given["download"] == "true"} if "download" in given else {})


def located(node: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's node with its places; nothing is fetched but on command."""
    changed = {**node, **given}
    if "download" in node:
        changed["download"] = given.get("download") is True
    if (given.get("root") or changed.get("download")) and "npz" in node and "npz" not in given:
        changed["npz"] = None  # what is named now takes the place of a file named before
    return changed


def at_hand(construct: Callable[[], ImageDataset], *, asked: bool) -> ImageDataset | None:
    """The data set, None where it does not lie where it would by itself; where it was `asked` for, it must.

    Raises:
        UsageError: the data are not in order, or not where the command says.
    """
    try:
        return construct()
    except Refused as refused:
        if not asked and all(any(sign in fault for sign in _ABSENT) for fault in refused.faults):
            return None
        raise UsageError(refused.faults) from refused
