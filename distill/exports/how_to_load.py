"""The lines of the model card that load each model; every block runs in the export's folder, after the first."""

from collections.abc import Mapping
from typing import Any

from distill.config.build import Refused, build_network
from distill.config.check import resolve, signature
from distill.config.rebuild import TRUSTED, WITHOUT_DOWNLOAD
from distill.exports.folder import ONNX, SAFETENSORS, TORCH
from distill.exports.subject import Subject

_PIXELS = """\
```python
import numpy

pixels = numpy.zeros((1, {size}, {size}, 3), dtype=numpy.uint8)  # your RGB images
images = ((pixels / 255 - {mean}) / {std}).astype(numpy.float32).transpose(0, 3, 1, 2)
```"""

_ONNX = f"""\
```python
import onnxruntime

session = onnxruntime.InferenceSession("{ONNX}")
print(session.run(["logits"], {{"images": images}})[0].argmax(axis=1))
```"""

_TORCH = f"""\
```python
import torch

program = torch.export.load("{TORCH}").module()
print(program(torch.from_numpy(images)).argmax(dim=1))
```"""

_WEIGHTS = f"""\
```python
import distill.models
import torch
from safetensors.torch import load_file

network = {{call}}
network.load_state_dict(load_file("{SAFETENSORS}"))
print(network.eval()(torch.from_numpy(images)).logits.argmax(dim=1))
```"""

_IMPORT = """\
`distill import {file}` makes a run of this folder again; then `distill.load("{run}")` gives its network, and it can \
teach (`teacher.run={run}`)."""


def loading(subject: Subject) -> str:
    """The section of the card."""
    normalise = subject.normalise
    pixels = _PIXELS.format(size=subject.image_size, mean=list(normalise.mean), std=list(normalise.std))
    blocks = {"onnx": _ONNX, "torch": _TORCH, "safetensors": _weights(subject)}
    forms = [model.form for model in subject.written]
    parts = ["## How to load", pixels, *(blocks[form] for form in forms if blocks[form])]
    if "safetensors" in forms:
        parts.append(_IMPORT.format(file=SAFETENSORS, run=subject.record.run_id))
    return "\n\n".join(parts)


def _weights(subject: Subject) -> str:
    """The lines that build the network by name; empty where that gives another one than was trained."""
    node, classes = subject.record.config["student"], subject.result["classes"]
    if node["_target_"] not in TRUSTED or any(isinstance(value, Mapping) for value in node.values()):
        return ""
    node = {**node, **{key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}}
    try:
        built = build_network(node, num_classes=classes, seed=0).state_dict()
    except Refused:
        return ""
    trained = subject.source.network.state_dict()
    if {name: t.shape for name, t in built.items()} != {name: t.shape for name, t in trained.items()}:
        return ""
    return _WEIGHTS.format(call=_call(node, classes))


def _call(node: Mapping[str, Any], classes: int) -> str:
    takes = signature(resolve(str(node["_target_"])))
    arguments = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    if "num_classes" in takes.annotations or takes.open_ended:
        arguments.setdefault("num_classes", classes)
    return f"{node['_target_']}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
