"""Networks and data sets read back from a run directory, whose content is not trusted."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

import distill.data
import distill.models
from distill.compose.build import Refused, build_dataset, build_network
from distill.data import ImageDataset
from distill.runs.checkpoint import load_weights
from distill.runs.files import StorageError
from distill.runs.layout import STUDENT
from distill.runs.store import RunRecord

# what these two packages export; timm's and torchvision's networks are reached through the adapters of distill.models
TRUSTED = frozenset(
    f"{package.__name__}.{name}"
    for package in (distill.models, distill.data)
    for name, found in vars(package).items()
    if callable(found) and not name.startswith("_")
)


# the run's own weights replace whatever a network begins with
WITHOUT_DOWNLOAD = {"pretrained": False, "weights": None}


class Untrusted(StorageError):
    """The run asks for something that nobody built because a folder said so."""


def rebuild_network(record: RunRecord, *, own: str | None = None) -> nn.Module:
    """The trained network of a finished run; only shipped networks are built from what a folder says.

    Args:
        record: a finished run.
        own: the target of a class of the user's, named on the command line and therefore trusted too.

    Raises:
        Untrusted: the run names another target.
        StorageError: its weights are not those it recorded, or its network cannot be built from its config.
    """
    assert record.result is not None
    node = _trusted(record, "student", own=own)
    node = {**node, **{key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}}
    try:
        network = build_network(node, num_classes=record.result["classes"], seed=0)
    except Refused as refused:
        raise StorageError(f"the network of {record.path} cannot be built: {refused.faults[0]}") from refused
    load_into(network, record)
    return network


def load_into(network: nn.Module, record: RunRecord) -> None:
    """Load a finished run's weights after checking their digest. Raises StorageError."""
    assert record.result is not None
    weights = load_weights(record.path / STUDENT, expected_sha256=record.result["weights_sha256"])
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise StorageError(f"the weights of {record.path} do not fit the network its config names: {reason}") from error


def rebuild_dataset(record: RunRecord, changes: Mapping[str, Any]) -> ImageDataset:
    """The data set of a run, its file or folder replaced by `changes` where they lie elsewhere now."""
    return build_dataset({**_trusted(record, "dataset"), **changes})


def _trusted(record: RunRecord, key: str, *, own: str | None = None) -> Mapping[str, Any]:
    """The node `key` of the run's config, if nothing in it is built that we or the user did not name."""
    node = record.config.get(key)
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise StorageError(f"{record.path} does not say what its {key} is: its config is damaged")
    for target in _targets(node):
        if target not in TRUSTED and target != own:
            raise Untrusted(
                f"{record.path} asks for {target!r}, and a run is rebuilt only from networks and data sets of distill: "
                "a class of your own is named on the command line (student._target_=..., or of a teacher "
                "teacher.network._target_=...)"
            )
    # Hydra would resolve it, and what comes out may be a node with a target of its own.
    if "${" in repr(node):
        raise Untrusted(
            f"{record.path} holds an interpolation, ${{...}}: a run is rebuilt only from networks and data sets that "
            "are written out"
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
