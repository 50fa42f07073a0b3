"""A checkpoint's tensors in the network that the command names, or every reason why they are not that network's."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from distill.cli.grammar import UsageError
from distill.config import configs_dir
from distill.config.build import Refused, build_network
from distill.config.check import check_target
from distill.imports.checkpoint import Checkpoint
from distill.imports.files import printable
from distill.imports.fitting import Misfit, aligned, misfit
from distill.tables.values import natural_key


def filled(
    checkpoint: Checkpoint, node: Mapping[str, Any], *, named: str, classes: int, config_dir: Path | None
) -> nn.Module:
    """The network of `node`, a checked student node called `named`, with the checkpoint's weights.

    Raises:
        UsageError: names or shapes differ (each is told, and which preset would fit), or values are no weights.
    """
    try:
        network = build_network(node, num_classes=classes, seed=0)
    except Refused as refused:
        raise UsageError([f"student: {fault}" for fault in refused.faults]) from refused
    own = network.state_dict()
    tensors = aligned(checkpoint.tensors, own)
    differences = misfit(tensors, own)
    if differences:
        raise UsageError(_told(checkpoint, differences, named=named, classes=classes, config_dir=config_dir))
    _check_kinds(checkpoint, tensors, own)
    network.load_state_dict(tensors)
    _check_values(checkpoint, network.state_dict())
    return network


def _told(
    checkpoint: Checkpoint, differences: Misfit, *, named: str, classes: int, config_dir: Path | None
) -> list[str]:
    head = f"{checkpoint.path} does not fit student={named} (tensors {differences.summary()})"
    counts = differences.classes
    if counts is not None and counts[1] == classes:
        hint = f": it tells {counts[0]} classes apart where the data set has {classes}, so choose its own data set"
    else:
        fitting = list(_fitting(checkpoint, classes=classes, config_dir=config_dir))
        hint = f": it fits student={' or student='.join(fitting)}" if fitting else ": nor does it fit any other preset"
    return [head + hint, *(f"  {line}" for line in differences.lines())]


def _fitting(checkpoint: Checkpoint, *, classes: int, config_dir: Path | None) -> Iterator[str]:
    """The presets whose names and shapes are all those of the file."""
    for name, node in sorted(_presets(config_dir), key=lambda preset: natural_key(preset[0])):
        faults: list[str] = []
        checked = check_target(node, "student", faults)
        if faults:
            continue  # one that leaves its network open
        try:
            with torch.device("meta"):
                own = build_network(checked, num_classes=classes, seed=0).state_dict()
        except Exception:  # of a preset of the user's: it is only asked whether it would fit
            continue
        if not misfit(aligned(checkpoint.tensors, own), own):
            yield name


def _presets(config_dir: Path | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every student preset as its own file has it: composing them all takes seconds."""
    for folder in (configs_dir(), *([config_dir] if config_dir else [])):
        for path in (folder / "student").rglob("*.yaml"):
            try:
                node = yaml.safe_load(path.read_bytes())
            except (OSError, yaml.YAMLError):
                continue
            if isinstance(node, Mapping) and "_target_" in node and "defaults" not in node:
                yield path.relative_to(folder / "student").with_suffix("").as_posix(), node


def _check_kinds(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    whole = [name for name in own if own[name].is_floating_point() and not tensors[name].is_floating_point()]
    if whole:
        kind = str(tensors[whole[0]].dtype).removeprefix("torch.")
        raise UsageError([f"{checkpoint.path}: {printable(whole[0])} holds {kind}, no weights: save them as floats"])


def _check_values(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if wrong:
        raise UsageError(
            [f"{checkpoint.path}: {printable(wrong[0])} holds values that are not finite: its training had diverged"]
        )
