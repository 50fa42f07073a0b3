"""Loads a weights file, from this or another project, into a network."""

import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
import yaml
from torch import Size, Tensor, nn

from distill.config import preset_files
from distill.config.build import build_network
from distill.config.check import check_target, resolve, signature
from distill.config.faults import Fault, Refused
from distill.models import Network
from distill.runs.checkpoint import load_weights
from distill.runs.foreign import SAFETENSORS, Checkpoint, printable, read_checkpoint
from distill.runs.store import finished_run

_COUNTER = ".num_batches_tracked"  # BatchNorm has it since torch 0.4.1
_VARIANCE = ".running_var"
_SHOWN = 10  # differences that are listed
SHORTCUT, PADDING = "shortcut", "padding"  # of the CIFAR ResNets, by which files of the two kinds differ


def network_with_weights(
    checkpoint: Checkpoint, node: Mapping[str, Any], *, name: str, classes: int, config_dir: Path | None = None
) -> nn.Module:
    """The network of `node`, a checked node called `name` (`student=resnet20`), with the checkpoint's weights.

    Raises Refused: names or shapes differ (the sentences list them, and which preset would fit), or values are not
    floating point, not finite, or variances below 0.
    """
    try:
        network = build_network(node, num_classes=classes, seed=0)
    except Refused as refused:
        raise Refused(refused.at(name.partition("=")[0])) from refused
    own = network.state_dict()
    tensors = rename_tensors(checkpoint.tensors, own)
    if differences := _differences(tensors, own):
        raise Refused(_misfit(checkpoint, differences, name=name, classes=classes, config_dir=config_dir))
    for key, tensor in own.items():
        if tensor.is_floating_point() and not tensors[key].is_floating_point():
            kind = str(tensors[key].dtype).removeprefix("torch.")
            raise Refused([f"{checkpoint.path}: {printable(key)} holds {kind}, no weights: save them as floats"])
    network.load_state_dict(tensors)
    for key, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            wrong = "values that are not finite: its training had diverged"
        elif key.endswith(_VARIANCE) and (tensor < 0).any():
            wrong = "variances below 0, which no BatchNorm has: the file is damaged"
        else:
            continue
        raise Refused([f"{checkpoint.path}: {printable(key)} holds {wrong}"])
    return network


def file_network(checkpoint: Checkpoint, node: Mapping[str, Any], *, name: str, classes: int) -> Network:
    """The network of `node` with the checkpoint's weights and as many classes as these have.

    `classes` is tried first. Raises Refused as `network_with_weights` does.
    """
    with torch.device("meta"):
        own = build_network(node, num_classes=classes, seed=0).state_dict()
    others = _other_classes(_differences(rename_tensors(checkpoint.tensors, own), own), classes)
    return cast(Network, network_with_weights(checkpoint, node, name=name, classes=others or classes))


def start_network(node: Mapping[str, Any], weights: str, runs_dir: Path, *, classes: int) -> nn.Module:
    """The network of a student's `node` that starts from `weights`: a file, or a finished run by its id or path.

    Raises:
        Refused: there is no such file or run, or its weights do not fit.
        StorageError: the run is damaged.
    """
    path = Path(weights)
    try:
        if path.is_file():
            start = read_checkpoint(path)
        else:
            record = finished_run(runs_dir, weights)
            assert record.result is not None
            digest = str(record.result["weights_sha256"])
            tensors = load_weights(record.path / record.weights, expected_sha256=digest)
            start = Checkpoint(record.path, digest, SAFETENSORS, "run", tensors, (), (), None, None)
    except ValueError as error:  # UnreadableError is one
        raise Refused([f"{weights} is no file of weights, and {error}"]) from error
    return network_with_weights(start, node, name="student", classes=classes)


def weights_digest(network: nn.Module) -> str:
    """The sha256 of a network's weights as runs store them."""
    state = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    return sha256(safetensors.torch.save(state)).hexdigest()


def rename_tensors(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the names of the network's state dict `own`, if a simple rule relates the two.

    What all names of the file begin with is replaced by what all names of the network begin with: the attributes under
    which a wrapper holds it. A classifier may have another name. BatchNorm counters, which files of torch 0.4.0 lack,
    begin at 0, as when torch itself reads such files.
    """
    theirs, ours = _common(tensors), _common(own)
    named = {f"{ours}{name.removeprefix(theirs)}": tensor for name, tensor in tensors.items()}
    counters = [name for name in own if name.endswith(_COUNTER)]
    if not any(name in named for name in counters):
        named |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    unknown, missing = (sorted(a.keys() - b.keys()) for a, b in ((named, own), (own, named)))
    layers = [{name.rpartition(".")[0] for name in names} for names in (unknown, missing)]
    if all(len(layer) == 1 for layer in layers):  # linear.weight, linear.bias: fc.weight, fc.bias
        (other,), (mine,) = layers
        named = {f"{mine}{name.removeprefix(other)}" if name in unknown else name: t for name, t in named.items()}
    return named


def _common(names: Iterable[str]) -> str:
    """The attributes that all names begin with, each with its dot."""
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{each[0]}." for each in takewhile(lambda level: len(set(level)) == 1, levels))


Differences = dict[str, tuple[Size | None, Size | None]]  # by name: the shape in the file, the shape in the network


def _differences(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Differences:
    """Reshaped tensors first, then those missing in the file, then those unknown to the network."""
    shapes = {name: (tensors[name].shape, own[name].shape) for name in own if name in tensors}
    reshaped: Differences = {name: (found, wanted) for name, (found, wanted) in shapes.items() if found != wanted}
    missing: Differences = {name: (None, own[name].shape) for name in own if name not in tensors}
    return reshaped | missing | {name: (tensors[name].shape, None) for name in tensors if name not in own}


def _misfit(
    checkpoint: Checkpoint, differences: Differences, *, name: str, classes: int, config_dir: Path | None
) -> list[str]:
    """One line on what does not fit and what would, then a line for each of the first differences."""
    kinds = {"of another shape": 0, "missing in the file": 0, "unknown to the network": 0}
    lines = []
    for key, (found, wanted) in differences.items():
        in_file = "not in the file" if found is None else f"{_shape(found)} in the file"
        kind = "missing in the file" if found is None else "of another shape"
        kinds["unknown to the network" if wanted is None else kind] += 1
        lines.append(
            f"  {printable(key)}: {in_file}, {'unknown' if wanted is None else f'{_shape(wanted)} in the network'}"
        )
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more"]
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    others = _other_classes(differences, classes)
    if others is not None:
        hint = f": it has {others} classes where the data set has {classes}, so choose its own data set"
    elif fitting := list(_fitting(checkpoint, classes=classes, config_dir=config_dir)):
        hint = f": it fits student={' or student='.join(fitting)}"
    else:
        hint = ", and no other preset fits"
    return [f"{checkpoint.path} does not fit {name} (tensors {counts}){hint}", *lines]


def _other_classes(differences: Differences, classes: int) -> int | None:
    """The file's number of classes, if nothing but the number of classes differs."""
    pairs = set()
    for found, wanted in differences.values():
        if not found or not wanted or found[1:] != wanted[1:]:
            return None
        pairs.add((found[0], wanted[0]))
    ((found_classes, own_classes),) = pairs if len(pairs) == 1 else [(0, 0)]
    return found_classes if own_classes == classes else None


def _shape(shape: Size) -> str:
    return "x".join(map(str, shape)) or "a single number"


def _fitting(checkpoint: Checkpoint, *, classes: int, config_dir: Path | None) -> Iterator[str]:
    """The presets with the names and shapes of the file; not composed, which would take seconds."""
    presets: dict[str, Mapping[str, Any]] = {}
    for name, path in preset_files("student", config_dir).items():
        try:
            node = yaml.safe_load(path.read_bytes())
        except (OSError, yaml.YAMLError):
            continue
        if isinstance(node, Mapping) and "_target_" in node and "defaults" not in node:
            presets[name] = node
    for name in sorted(presets, key=_in_order):
        faults: list[Fault] = []
        checked = check_target(presets[name], "student", faults)
        if faults:
            continue  # a preset that needs further values, such as a name
        takes = signature(resolve(str(checked["_target_"]))).annotations
        variants = {name: checked}
        if SHORTCUT in takes:
            variants[f"{name} student.{SHORTCUT}={PADDING}"] = {**checked, SHORTCUT: PADDING}
        for shown, node in variants.items():
            try:
                with torch.device("meta"):
                    own = build_network(node, num_classes=classes, seed=0).state_dict()
            except Exception:  # of a preset of the user's: this is only a hint
                continue
            if not _differences(rename_tensors(checkpoint.tensors, own), own):
                yield shown


def _in_order(name: str) -> list[tuple[int, str]]:
    """`resnet8` before `resnet20`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
