"""Somebody else's weights in their network, and what the run of them is."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import safetensors.torch
import torch
from torch import nn

from distill.cli.grammar import UsageError
from distill.cli.importing.fit import filled
from distill.cli.importing.parts import Parts, at_hand
from distill.config.build import build_dataset
from distill.config.check import resolve
from distill.config.identity import canonical_node
from distill.config.plan import data_identity
from distill.config.preflight import check_network
from distill.data import SHAPES, ImageDataset
from distill.imports.checkpoint import Checkpoint
from distill.runs.identity import NUMERICS_VERSION
from distill.runs.identity import run_id as digest_of

METHOD = "imported"
PRECISION = "fp32"
_UNKNOWN = {"npz", "root", "download", "limit", "holdout"}  # of a data set's node: no part of what it is


@dataclass(frozen=True)
class Imported:
    """Weights in their network, and the run they are to become."""

    checkpoint: Checkpoint
    parts: Parts
    network: nn.Module
    weights: bytes
    classes: int
    image_size: int
    dataset: ImageDataset | None
    device: torch.device

    @property
    def sha256(self) -> str:
        """Of the weights as stored."""
        return sha256(self.weights).hexdigest()

    @property
    def identity(self) -> dict[str, Any]:
        """What the run is, as tables and teachers read it; the data's digests are unknown where they are absent."""
        node = self.parts.nodes["dataset"]
        known = {key: node[key] for key in ("mean", "std", "pad", "flip") if key in node}
        absent = {"train": None, "test": None, "holdout": 0, **known}
        method = {"target": METHOD}
        return {
            "numerics": NUMERICS_VERSION,
            "data": absent if self.dataset is None else data_identity(self.dataset),
            "student": canonical_node(self.parts.nodes["student"]),
            "teacher": None,
            "objective": method,
            "recipe": method,
            "seed": 0,
            "precision": PRECISION,
            "weights": self.sha256,
        }

    @property
    def run_id(self) -> str:
        """The digest of weights, network and data set; not of where the data lie, nor whether they are here."""
        node = self.parts.nodes["dataset"]
        data = canonical_node({key: value for key, value in node.items() if key not in _UNKNOWN})
        if resolve(str(node["_target_"])) not in SHAPES:
            assert self.dataset is not None  # its content is what names it
            data |= self.dataset.digest
        return digest_of({"weights": self.sha256, "student": self.identity["student"], "data": data})


def prepare(checkpoint: Checkpoint, parts: Parts, *, asked: bool, device: torch.device) -> Imported:
    """Build the network, fill it and look for the data; nothing is written.

    Raises:
        UsageError: everything that is wrong.
    """
    student, node = parts.nodes["student"], parts.nodes["dataset"]
    if node.get("holdout"):
        raise UsageError(
            ["dataset.holdout must be 0: nobody knows whether imported weights have seen those images; leave it out"]
        )
    fixed = SHAPES.get(resolve(str(node["_target_"])))
    dataset = at_hand(lambda: build_dataset(node), asked=asked or fixed is None)
    shape = fixed if dataset is None else (dataset.num_classes, dataset.image_size)
    assert shape is not None
    faults: list[str] = []
    check_network(student, shape, "student", faults)
    if faults:
        raise UsageError(faults)
    network = filled(checkpoint, student, named=parts.names["student"], classes=shape[0], config_dir=parts.config_dir)
    tensors = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    return Imported(checkpoint, parts, network, safetensors.torch.save(tensors), *shape, dataset, device)
