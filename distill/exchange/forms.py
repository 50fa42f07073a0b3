"""Writing a network as safetensors, ONNX or torch.export, and reading each file back.

`WRITE[form](source, path)` writes a file and returns the network that the file holds. `READ[form](path, network)`
returns the file as a function from images (B, 3, S, S) to logits (B, K), on the CPU.
"""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from distill.exchange.load import LoadedNetwork
from distill.models import Network
from distill.runs.checkpoint import load_weights, save_weights
from distill.runs.files import read_record, write_synced
from distill.runs.store import RunRecord

Logits = Callable[[Tensor], Tensor]


class OnlyLogits(nn.Module):
    """A network that returns its logits alone, since exported programs return tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run, its network (CPU, eval mode), the side of its images in pixels, and whether to round to fp16.

    Only safetensors are rounded: a program computes in the type that it holds.
    """

    record: RunRecord
    network: LoadedNetwork
    image_size: int
    half: bool

    @cached_property
    def program(self) -> ExportedProgram:
        """The network traced by torch.export for any batch size; it holds no path of this machine."""
        images = torch.zeros(2, 3, self.image_size, self.image_size)  # with a batch of 1 the size would be fixed at 1
        with torch.no_grad():
            program = torch.export.export(
                OnlyLogits(self.network).eval(), (images,), dynamic_shapes={"images": {0: Dim("batch")}}
            )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        return program


def _write_safetensors(source: Source, path: Path) -> Network:
    """The run's file byte for byte, or with its weights rounded. ValueError if a weight is too large for fp16."""
    if not source.half:
        write_synced(path, read_record(source.record.path / source.record.weights, largest=None))
        return source.network
    weights = halved(source.network.state_dict())
    save_weights(path, weights)
    return with_weights(source.network, weights)


def _read_safetensors(path: Path, network: Network) -> Logits:
    return OnlyLogits(with_weights(network, load_weights(path)))


def with_weights(network: Network, weights: Mapping[str, Tensor]) -> Network:
    """A copy of `network` with these weights. RuntimeError unless each has its name and shape."""
    other = copy.deepcopy(network)
    other.load_state_dict(dict(weights))
    return other


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of 32 and 64 bits in fp16, counters unchanged. ValueError if a value is too large."""
    wide = (torch.float32, torch.float64)
    half = {name: tensor.half() if tensor.dtype in wide else tensor for name, tensor in weights.items()}
    for name, tensor in half.items():
        if tensor.is_floating_point() and not torch.equal(tensor.isfinite(), weights[name].isfinite()):
            raise ValueError(f"{name} has values too large for fp16: leave --dtype fp16 out")
    return half


def _write_onnx(source: Source, path: Path) -> Network:
    """One file with graph and weights, from `images` to `logits`; its metadata holds run id and normalisation."""
    program: Any = torch.onnx.export(
        source.program,
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: "batch"}},
        verbose=False,
    )
    normalise = source.network.normalise
    program.model.metadata_props.update(
        run_id=source.record.run_id, mean=json.dumps(normalise.mean), std=json.dumps(normalise.std)
    )
    program.save(str(path), external_data=False)
    return source.network


def _read_onnx(path: Path, network: Network) -> Logits:
    import onnx  # an optional package
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.contiguous().numpy()})[0])


def _write_torch(source: Source, path: Path) -> Network:
    with warnings.catch_warnings():
        # a false alarm about tensors without dimensions, such as BatchNorm's counter: they are written whole
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(source.program, path)
    return source.network


def _read_torch(path: Path, network: Network) -> Logits:
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # an unreadable file raises an error, which is enough; torch logs a trace too
    try:
        program: Logits = torch.export.load(path).module()
    finally:
        log.setLevel(level)
    return program


WRITE: dict[str, Callable[[Source, Path], Network]] = {
    "safetensors": _write_safetensors,
    "onnx": _write_onnx,
    "torch": _write_torch,
}
READ: dict[str, Callable[[Path, Network], Logits]] = {
    "safetensors": _read_safetensors,
    "onnx": _read_onnx,
    "torch": _read_torch,
}
