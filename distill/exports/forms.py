"""The forms that a network can be exported in, and the packages that they need. Imports no torch."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill.exports.folder import ONNX, SAFETENSORS, TORCH

EXTRA = 'pip install "distill[export]"'


@dataclass(frozen=True)
class Form:
    """One form: its file, what it is called, the module that writes and reads it, and the packages of these.

    The module has `write(source, path)`, which takes a `Source` and returns the network that was written, and
    `read(path, network)`, which gives a function from images to logits. `tolerance` is the largest difference
    between the logits of these two, as a share of the largest logit (of 1 where all are smaller).
    """

    file: str
    title: str
    module: str
    tolerance: float
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.needs if find_spec(package) is None]

    def write(self, source: Any, path: Path) -> Any:
        """Write the file; the network that was written."""
        return importlib.import_module(self.module).write(source, path)

    def read(self, path: Path, network: Any) -> Any:
        """The file as a function from images to logits."""
        return importlib.import_module(self.module).read(path, network)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "safetensors": Form(SAFETENSORS, "state dict", "distill.exports.as_safetensors", tolerance=1e-6),
        "onnx": Form(
            ONNX,
            "ONNX, any batch size",
            "distill.exports.as_onnx",
            tolerance=1e-4,
            needs=("onnx", "onnxscript", "onnxruntime"),
        ),
        "torch": Form(TORCH, "torch.export, any batch size", "distill.exports.as_torch", tolerance=1e-4),
    }
)
