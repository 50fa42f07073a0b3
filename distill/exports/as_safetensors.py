"""The plain weights: a state dict in one file."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from distill.exports.source import Logits, Source
from distill.models import Network
from distill.runs.checkpoint import load_weights, save_weights
from distill.runs.files import write_synced
from distill.runs.layout import STUDENT


def write(source: Source, path: Path) -> Network:
    """The run's file, byte for byte; with `half` its weights rounded. Returns the network that was written.

    Raises ValueError where a weight is too large for fp16.
    """
    if not source.half:
        write_synced(path, (source.record.path / STUDENT).read_bytes())
        return source.network
    weights = halved(source.network.state_dict())
    save_weights(path, weights)
    return with_weights(source.network, weights)


def read(path: Path, network: Network) -> Callable[[Tensor], Tensor]:
    """A network like `network` with the weights of the file; half types are raised to its own."""
    return Logits(with_weights(network, load_weights(path)))


def with_weights(network: Network, weights: Mapping[str, Tensor]) -> Network:
    """A copy of `network` with these weights. RuntimeError unless each has its name and shape."""
    other = copy.deepcopy(network)
    other.load_state_dict(dict(weights))
    return other


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of 32 and 64 bits in fp16, counters as they are. ValueError where one is too large."""
    wide = (torch.float32, torch.float64)
    half = {name: tensor.half() if tensor.dtype in wide else tensor for name, tensor in weights.items()}
    for name, tensor in half.items():
        if tensor.is_floating_point() and not torch.equal(tensor.isfinite(), weights[name].isfinite()):
            raise ValueError(f"{name} has values too large for fp16: leave --dtype fp16 out")
    return half
