"""ONNX: a graph with its weights in one file, for onnxruntime and others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.exports.source import Source
from distill.models import Network


def write(source: Source, path: Path) -> Network:
    """The graph from `images` to `logits`; run id and normalisation stand in its metadata.

    Returns the network that was written.
    """
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


def read(path: Path, network: Network) -> Callable[[Tensor], Tensor]:
    """The graph of the file in onnxruntime, on the CPU."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(images: Tensor) -> Tensor:
        (found,) = session.run(["logits"], {"images": images.contiguous().numpy()})
        return torch.from_numpy(found)

    return logits
