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
from distill.config.plan import split_stages
from distill.data import ImageDataset
from distill.losses import Task
from distill.models.inputs import Channels
from distill.runs.checkpoint import load_weights
from distill.runs.files import StorageError
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


# timm's and torchvision's networks are built by the adapters of distill.models
TRUSTED = exported(distill.models, distill.data)
TRUSTED_METHODS = TRUSTED | exported(distill.losses)

# the run's own weights replace whatever a network begins with
WITHOUT_DOWNLOAD = {"pretrained": False, "weights": None}


class Untrusted(StorageError):
    """The run's configuration names code that is not of distill, and the user has not allowed it."""


def rebuild_network(record: RunRecord, *, own: str | None = None) -> nn.Module:
    """The trained network of a finished run. Only networks of distill are built from a folder's configuration.

    Args:
        record: a finished run.
        own: the target of a class of the user's own, named on the command line and therefore trusted too.

    Raises:
        Untrusted: the run names another target.
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


def only_ours(loss: Any, record: RunRecord) -> Mapping[str, Any]:
    """The node of a run's loss, if every target in it belongs to distill. Raises Untrusted."""
    strange = "${" in repr(loss) or not all(_is_ours(target) for target in _targets(loss))
    if strange or not isinstance(loss, Mapping):
        raise Untrusted(f"the loss of {record.path} is not one of distill's")
    return loss


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
    return _built(_trusted(teacher.get("network"), "teacher", record, own=own), record)


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


def rebuild_dataset(record: RunRecord, places: Mapping[str, Any]) -> ImageDataset:
    """The data set of a run, read from `places` where they are given. Raises Refused, Untrusted or StorageError."""
    return build_dataset(located(_trusted(record.config.get("dataset"), "dataset", record), places))


def located(node: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's node with `places` (`npz`, `root`, `download`); without `download` there, nothing is downloaded."""
    changed = {**node, **places}
    if "download" in node:
        changed["download"] = places.get("download") is True
    if (places.get("root") or changed.get("download")) and "npz" in node and "npz" not in places:
        changed["npz"] = None  # the place named now replaces the file named before
    return changed


def _trusted(node: Any, key: str, record: RunRecord, *, own: str | None = None) -> Mapping[str, Any]:
    """The node of the run's `key`, if all its targets belong to distill or are the user's `own`."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise StorageError(f"the config of {record.path} is damaged: it has no {key} with a _target_")
    for target in _targets(node):
        if target not in TRUSTED and target != own:
            raise Untrusted(
                f"{record.path} names {target!r}, and a run is rebuilt only from networks and data sets of distill: to "
                "allow a class of your own, name it on the command line (student._target_=..., or for a teacher "
                "teacher.network._target_=...)"
            )
    # Hydra would resolve it, and the result may be a node with a target of its own
    if "${" in repr(node):
        raise Untrusted(
            f"the config of {record.path} holds an interpolation, ${{...}}: a run is rebuilt only from networks and "
            "data sets that are written out"
        )
    return node


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)
