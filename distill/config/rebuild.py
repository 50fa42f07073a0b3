"""Networks and data sets rebuilt from a run directory, whose content is not trusted."""

import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import distill.data
import distill.losses
import distill.models
from distill.config.build import build_dataset, build_network, build_objective, sentences
from distill.config.check import resolve, signature
from distill.config.own_code import OWN_CODE, Unreadable, own_code
from distill.config.plan import split_stages
from distill.data import Dataset
from distill.losses import Task
from distill.models.inputs import Channels
from distill.runs.checkpoint import load_weights
from distill.runs.files import StorageError
from distill.runs.layout import CONFIG, PROVENANCE
from distill.runs.store import RunRecord, find
from distill.runs.target_names import current_name


def exported(*packages: ModuleType) -> frozenset[str]:
    """The dotted names of everything callable that packages export."""
    return frozenset(
        f"{package.__name__}.{name}"
        for package in packages
        for name, found in vars(package).items()
        if callable(found) and not name.startswith("_")
    )


def _builds_a_network(target: str) -> bool:
    """Whether a function or class makes a network from the number of classes, and at most a name, alone."""
    takes = signature(resolve(target))
    return "num_classes" in takes.annotations and takes.required <= {"name"}


# what a run folder may name as its networks: timm's and torchvision's are built by the adapters of distill.models
NETWORKS = frozenset(filter(_builds_a_network, exported(distill.models)))
DATASETS = exported(distill.data)
TRUSTED_METHODS = exported(distill.models, distill.data, distill.losses)

# the run's own weights replace whatever a network begins with
WITHOUT_DOWNLOAD = {"pretrained": False, "weights": None}


class Untrusted(StorageError):
    """The run's configuration names code that is neither of distill nor, by its digest, the user's own."""


def rebuild_network(record: RunRecord, *, own: str | None = None) -> nn.Module:
    """The trained network of a finished run: one of distill's, or of a class of the user's own with the run's digest.

    Args:
        record: a finished run.
        own: the target of a class that the user has named on the command line: it needs no digest, but where the run
            has one it must be that.

    Raises:
        Untrusted: the run names another target, or the user's class is not the one it was trained with.
        StorageError: its weights are not those it recorded, or its network cannot be built from its config.
    """
    assert record.result is not None
    node = _trusted(record.config.get("student"), "student", record, own=own)
    try:
        network = _built(node, record)
        network = _deployed(network, record, own=own) or network
    except ValueError as refused:
        raise StorageError(f"the network of {record.path} cannot be built: {sentences(refused)[0]}") from refused
    load_into(network, record)
    return network


def normalisation(record: RunRecord) -> tuple[Channels, Channels]:
    """Mean and deviation per channel of a run's images, in units of 0..1. Raises StorageError."""
    for node in (record.identity.get("data"), record.config.get("dataset")):
        mean, std = (_channels(node, key) for key in ("mean", "std"))
        if mean is not None and std is not None and min(std) > 0:
            return mean, std
    raise StorageError(f"{record.path} does not say how its images are normalised: its config is damaged")


def _channels(node: Any, key: str) -> Channels | None:
    values = node.get(key) if isinstance(node, Mapping) else None
    if not isinstance(values, list) or len(values) != 3:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return None
    return (float(values[0]), float(values[1]), float(values[2]))


def _built(node: Mapping[str, Any], record: RunRecord) -> nn.Module:
    assert record.result is not None
    node = {**node, **{key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}}
    return build_network(node, num_classes=record.result["classes"], seed=0)


def _deployed(student: nn.Module, record: RunRecord, *, own: str | None) -> nn.Module | None:
    """The network that the run's objective deploys in the student's place; its weights are among the run's."""
    loss, _ = split_stages(record.config.get("loss"))
    if not isinstance(loss, Mapping) or not all(_is_ours(target) for target in _targets(loss)):
        return None  # a method of the user's own; if it deploys a network, loading the weights fails with a message
    objective = build_objective(loss, seed=0)
    if not objective.deploys:
        return None
    assert record.result is not None
    classes, image_size = record.result["classes"], record.result.get("image_size", 32)
    return objective.attach(student, _guide(record, own=own), Task(image_size, torch.arange(classes)))


def _is_ours(target: str) -> bool:
    """Whether an objective, or a loss inside it, belongs to distill."""
    return current_name(target) in TRUSTED_METHODS


def _guide(record: RunRecord, *, own: str | None) -> nn.Module | None:
    """The teacher's network, a part of which is in the deployed one; only its shapes matter here."""
    teacher = record.config.get("teacher")
    if not isinstance(teacher, Mapping):
        return None
    run = teacher.get("run")
    if run:
        return rebuild_network(find(record.path.parent, str(run)), own=own)
    return _built(network_of_teacher(record, own=own), record)


def load_into(network: nn.Module, record: RunRecord) -> None:
    """Load a finished run's weights after checking their digest. Raises StorageError."""
    weights = weights_of(record)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise StorageError(f"the weights of {record.path} do not fit the network its config names: {reason}") from error


def weights_of(record: RunRecord) -> dict[str, Tensor]:
    """A finished run's weights after checking their digest. Raises StorageError."""
    assert record.result is not None
    return load_weights(record.path / record.weights, expected_sha256=record.result["weights_sha256"])


def rebuild_dataset(record: RunRecord, places: Mapping[str, Any]) -> Dataset:
    """The data set of a run, read from `places` where they are given. Raises Refused, Untrusted or StorageError."""
    return build_dataset(located(_trusted(record.config.get("dataset"), "dataset", record), places))


def located(node: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's node with `places` (`npz`, `root`, `shards`, `download`), the place named now instead of the others.

    Without `download` there, nothing is downloaded.
    """
    changed = {**node, **places}
    if "download" in node:
        changed["download"] = places.get("download") is True
    if (places.get("root") or changed.get("download")) and "npz" in node and "npz" not in places:
        changed["npz"] = None  # the place named now replaces the file named before
    for place, other in (("root", "shards"), ("shards", "root")):
        if places.get(place) and other in node and other not in places:
            changed[other] = None
    return changed


def check_trusted(record: RunRecord, *, own: str | None = None) -> None:
    """Raises Untrusted where `rebuild_network` would, before any work."""
    _trusted(record.config.get("student"), "student", record, own=own)


def network_of_teacher(record: RunRecord, *, own: str | None = None) -> Mapping[str, Any]:
    """The node of the network of a run's teacher, if it may be built. Raises Untrusted, StorageError."""
    return _trusted((record.config.get("teacher") or {}).get("network"), "teacher", record, own=own)


def _trusted(node: Any, key: str, record: RunRecord, *, own: str | None = None) -> Mapping[str, Any]:
    """The node of the run's `key`, if all its targets are distill's, or the user's with the digest that the run has."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise StorageError(f"the config of {record.path} is damaged: it has no {key} with a _target_")
    # Hydra would resolve it, and the result may be a node with a target of its own
    if "${" in repr(node):
        raise Untrusted(
            f"the config of {record.path} holds an interpolation, ${{...}}: a run is rebuilt only from networks and "
            "data sets that are written out"
        )
    ours = DATASETS if key == "dataset" else NETWORKS
    for target, digest in _targets_with_digests(node, _identity_of(key, record)):
        if current_name(target) not in ours:
            _check_own(target, digest, record, named=target == own)
    return node


def _identity_of(key: str, record: RunRecord) -> Any:
    """The part of a run's identity that belongs to its `student` or `dataset`, or to its teacher's network."""
    if key != "teacher":
        return record.identity.get("data" if key == "dataset" else key)
    teacher = record.identity.get("teacher")
    try:
        run = find(record.path.parent, str(teacher["run"])) if isinstance(teacher, Mapping) else None
    except (KeyError, ValueError):
        return None
    return None if run is None else run.identity.get("student")


def _check_own(target: str, digest: str | None, record: RunRecord, *, named: bool) -> None:
    """Raises Untrusted unless `target` is code of the user's own with the run's digest, or the user has named it.

    Nothing is imported before its digest is known to be that of the run.
    """
    try:
        code = own_code(target)
    except Unreadable:
        code = None
    for path in () if code is None else code.paths:
        if any((folder / CONFIG).is_file() and (folder / PROVENANCE).is_file() for folder in path.parents):
            raise Untrusted(
                f"{record.path} names {target!r}, and {path} lies in the folder of a run: a run is rebuilt only from "
                "networks and data sets of distill or your own, so put your code into a folder of its own"
            )
    if digest is None and named:
        return
    if digest is None or code is None or not (code.paths or named):
        found = "" if code is not None or digest is None else ", which is not found here"
        raise Untrusted(
            f"{record.path} names {target!r}{found}, and a run is rebuilt only from networks and data sets of distill "
            "or from code of your own whose digest the run's id holds: to allow a class of your own, type the command "
            "where its file lies, and name it (student._target_=..., or for a teacher teacher.network._target_=...)"
        )
    if code.digest != digest:
        where = ", ".join(map(str, code.paths)) or ", ".join(code.files)
        raise Untrusted(
            f"{record.path} was trained with a {target!r} whose code has the digest {digest[:12]}, that of {where} has "
            f"{code.digest[:12]}: a run is rebuilt only from networks and data sets with its own code, so restore that"
        )
    if not named and getattr(resolve(target), "__module__", None) not in code.modules:
        raise Untrusted(
            f"{record.path} names {target!r}, which your files import from elsewhere: a run is rebuilt only from "
            "networks and data sets of distill or your own"
        )


def _targets_with_digests(node: Any, identity: Any) -> Iterator[tuple[str, str | None]]:
    """Every target in a node with the digest of its code that the run's identity holds at the same place."""
    if isinstance(node, Mapping):
        known = identity if isinstance(identity, Mapping) else {}
        if "_target_" in node:
            digest = known.get(OWN_CODE)
            yield str(node["_target_"]), digest if isinstance(digest, str) else None
        for key, value in node.items():
            yield from _targets_with_digests(value, known.get(key))
    elif isinstance(node, list | tuple):
        listed = identity if isinstance(identity, list | tuple) else ()
        for number, value in enumerate(node):
            yield from _targets_with_digests(value, listed[number] if number < len(listed) else None)


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)
