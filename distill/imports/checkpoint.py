"""The layouts in which others store a network: RepDistiller, mdistiller and what builds on them, plain state dicts.

RepDistiller         {epoch, model, accuracy or best_acc, optimizer}, or {opt: Namespace, model, optimizer}
mdistiller, runs     {epoch, model: {module.student.*, module.teacher.*}, optimizer, best_acc}
mdistiller, student  {model}
others               {state_dict} or {net} with anything beside it, or the state dict alone
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.imports.files import SAFETENSORS, UnreadableError, printable, read_contents

PLACES = ("model", "state_dict", "net", "model_state_dict")
CLAIMS = ("accuracy", "best_acc", "acc", "best_accuracy", "best_acc1", "test_acc")
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile
STUDENT = "student."


@dataclass(frozen=True)
class Claim:
    """An accuracy that the file states: percent, and the key under which it stands."""

    accuracy: float
    key: str


@dataclass(frozen=True)
class Checkpoint:
    """One network's tensors (CPU, under the network's own names) and what the file says about them.

    `ignored` are the parts beside the student that the file holds (`teacher`), `epoch` is None where it does not say.
    """

    path: Path
    sha256: str
    container: str
    layout: str
    tensors: Mapping[str, Tensor]
    ignored: tuple[str, ...]
    epoch: int | None
    claim: Claim | None

    @property
    def metadata(self) -> dict[str, object]:
        """What is recorded of the file beside a run made from it."""
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "container": self.container,
            "layout": self.layout,
            "epoch": self.epoch,
            "claimed": None if self.claim is None else {self.claim.key: self.claim.accuracy},
            "ignored": list(self.ignored),
        }


def read_checkpoint(path: Path) -> Checkpoint:
    """The network in a file of any of the layouts above.

    Raises:
        UnreadableError: the file cannot be read, or holds no tensors of one network.
    """
    found = read_contents(path)
    place, state = _state_dict(path, found.content)
    named = {_text(path, key): value for key, value in state.items()}
    tensors, ignored = _students(named)
    for name, value in tensors.items():
        _check(path, name, value)
    beside = found.content if place else {}
    return Checkpoint(
        path=path,
        sha256=found.sha256,
        container=found.container,
        layout=SAFETENSORS if found.container == SAFETENSORS else _layout(place, beside, ignored),
        tensors={name: value.detach() for name, value in tensors.items()},
        ignored=ignored,
        epoch=_epoch(beside),
        claim=_claim(beside),
    )


def _state_dict(path: Path, content: object) -> tuple[str, Mapping[Any, Any]]:
    """The key of the state dict ("" where it is the file itself), and the state dict."""
    if not isinstance(content, Mapping):
        raise UnreadableError(f"{path} holds no state dict but {_kind(content)}: save the network's state_dict()")
    for place in PLACES:
        if _holds_tensors(content.get(place)):
            return place, content[place]
    if _holds_tensors(content):
        return "", content
    keys = ", ".join(printable(str(key), limit=30) for key in list(content)[:8]) or "none"
    raise UnreadableError(
        f"{path} holds no state dict: it is looked for under {', '.join(PLACES)}, and the keys are {keys}"
    )


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _students(named: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The entries of the student under its own names, and the parts that were left out."""
    names = dict(named)
    ignored: set[str] = set()
    while True:
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) for name in names):
                names = {name.removeprefix(wrapper): value for name, value in names.items()}
                break
        else:
            if not any(name.startswith(STUDENT) for name in names):
                return names, tuple(sorted(ignored))
            ignored |= {name.partition(".")[0] for name in names if not name.startswith(STUDENT)}
            names = {name.removeprefix(STUDENT): item for name, item in names.items() if name.startswith(STUDENT)}


def _text(path: Path, key: object) -> str:
    if not isinstance(key, str) or not key:
        raise UnreadableError(f"{path} names a tensor {key!r}, which is no text: save the network's state_dict()")
    return key


def _check(path: Path, name: str, value: object) -> None:
    what = printable(name)
    if not isinstance(value, Tensor):
        raise UnreadableError(f"{path}: {what} is {_kind(value)} where a tensor is expected: save state_dict() alone")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_complex():
        raise UnreadableError(f"{path}: {what} is no dense tensor of real numbers: save the weights as such")


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"


def _layout(place: str, beside: Mapping[Any, Any], ignored: tuple[str, ...]) -> str:
    if not place:
        return "state dict"
    if place != "model":
        return f"checkpoint ({place})"
    if "teacher" in ignored:
        return "mdistiller"
    if set(beside) == {"model"}:
        return "mdistiller student"
    return "RepDistiller" if {"opt", "accuracy", "best_acc"} & set(beside) else "checkpoint (model)"


def _epoch(beside: Mapping[Any, Any]) -> int | None:
    number = _number(beside.get("epoch"))
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _claim(beside: Mapping[Any, Any]) -> Claim | None:
    for key in CLAIMS:
        number = _number(beside.get(key))
        if number is not None and 0 <= number <= 100:
            # below one per cent no network is worth a checkpoint: that is a fraction
            return Claim(float(f"{100 * number:.12g}") if number < 1 else number, key)
    return None


def _number(value: object) -> float | None:
    """A finite number, also where it is a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu" and not value.is_complex():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None
