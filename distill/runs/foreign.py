"""Checkpoints of other projects: RepDistiller, mdistiller and projects built on them, plain state dicts, safetensors.

RepDistiller         {epoch, model, accuracy or best_acc, optimizer}, or {opt: Namespace, model, optimizer}
mdistiller, runs     {epoch, model: {module.student.*, module.teacher.*}, optimizer, best_acc}
mdistiller, student  {model}
others               {state_dict} or {net} with any other keys, or the state dict alone

Nothing in a file is executed. torch's restricted unpickler builds tensors and plain values, and of other types only
those in `ADMITTED`, which can do nothing but hold values.
"""

import argparse
import hashlib
import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from distill.runs.escapes import escaped
from distill.runs.files import explain

SAFETENSORS, ZIP, PICKLE = "safetensors", "torch zip", "torch non-zip"
PLACES = ("model", "state_dict", "net", "model_state_dict")
# accuracies of the weights in the file, and of the best epoch so far
LAST_CLAIMS = ("accuracy", "acc", "acc1", "test_acc", "test_accuracy", "val_acc", "prec1", "top1", "metric")
BEST_CLAIMS = ("best_acc", "best_accuracy", "best_acc1", "best_prec1", "best_prec", "best_top1", "best_metric", "best")
# DataParallel, torch.compile, and the names under which trainers hold the network they train
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
STUDENT = "student."

_LONGEST_HEADER = 100_000_000  # of a safetensors file, in bytes: the format's own limit
_EXPANSION, _SMALL = 4, 1 << 20

# how files of other kinds begin, at which byte, and what the user should do
_OTHERS = (
    (0, b"\x1f\x8b", "is compressed (gzip): unpack it, and import the checkpoint of one network"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (0, b"<", "is a web page, not weights: download the file itself"),
    (257, b"ustar", "is a tar archive: unpack it, and import the checkpoint of one network"),
)


class UnreadableError(ValueError):
    """The file holds no weights that may be read; the message is one sentence with the reason."""


@dataclass(frozen=True)
class Claim:
    """An accuracy that the file states: percent, and the key under which it stands."""

    accuracy: float
    key: str

    @property
    def is_best(self) -> bool:
        """Whether it is that of the best epoch, which need not be the one of the weights."""
        return self.key in BEST_CLAIMS


@dataclass(frozen=True)
class Checkpoint:
    """One network's tensors (CPU, under the network's own names) and what the file states about them.

    `ignored` are parts of the file other than the student (`teacher`); `others` are the keys of further states of the
    same network (`state_dict_ema`); `epoch` is None if the file states none.
    """

    path: Path
    sha256: str
    container: str
    layout: str
    tensors: Mapping[str, Tensor]
    ignored: tuple[str, ...]
    others: tuple[str, ...]
    epoch: int | None
    claim: Claim | None

    @property
    def metadata(self) -> dict[str, object]:
        """What is recorded of the file in the provenance of a run made from it."""
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "container": self.container,
            "layout": self.layout,
            "epoch": self.epoch,
            "claimed": None if self.claim is None else {self.claim.key: self.claim.accuracy},
            "ignored": list(self.ignored),
        }


def read_checkpoint(path: Path, *, state: str | None = None) -> Checkpoint:
    """The network in a file of any of the layouts above; `state` is the key of another state in it.

    Raises UnreadableError: the file cannot be read, holds more than tensors and plain values, or no state dict.
    """
    data = _bytes(path)
    container = _container(path, data)
    content = _read_safetensors(path, data) if container == SAFETENSORS else _read_pickle(path, data)
    place, named = _state_dict(path, content, (*PLACES, "") if state is None else (state,))
    for name in named:
        if not isinstance(name, str) or not name:
            raise UnreadableError(f"{path} names a tensor {name!r}, which is no text: save the network's state_dict()")
    tensors, ignored = _student(named)
    for name, value in tensors.items():
        _check(path, name, value)
    others = content if place else {}
    return Checkpoint(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        container=container,
        layout=SAFETENSORS if container == SAFETENSORS else _layout(place, others, ignored),
        tensors={name: value.detach() for name, value in tensors.items()},
        ignored=ignored,
        others=tuple(_others(others, place, tensors)),
        epoch=_epoch(others),
        claim=_claim(others) if place in PLACES else None,
    )


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors do; False if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _begins_safetensors(file.read(9))
    except OSError:
        return False


def printable(text: str, *, limit: int = 80) -> str:
    """A name out of a file, safe to print on a terminal."""
    shown = escaped(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise UnreadableError(f"{path} is a folder: name the file with the weights in it")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError(f"there is no file {path}: name the file with the weights") from error
    except OSError as error:
        raise UnreadableError(explain(path, error, action="read")) from error


def _begins_safetensors(data: bytes) -> bool:
    """Eight bytes with the length of a JSON header, and its opening brace."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LONGEST_HEADER


def _container(path: Path, data: bytes) -> str:
    """The kind of the file by its first bytes, whatever its name."""
    if not data:
        raise UnreadableError(f"{path} is empty: copy or download it again")
    if _begins_safetensors(data):
        return SAFETENSORS
    if data.startswith(b"PK\x03\x04"):
        return ZIP
    if data.startswith(b"\x80"):
        return PICKLE
    for place, beginning, sentence in _OTHERS:
        if data[place:].startswith(beginning):
            raise UnreadableError(f"{path} {sentence}")
    raise UnreadableError(f"{path} is neither a checkpoint of torch nor safetensors: name the file with the weights")


def _read_safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    # what its parser raises, and torch for an impossible type or size in the header
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise UnreadableError(f"{path} is truncated or damaged safetensors: copy or download it again") from error


def _read_pickle(path: Path, data: bytes) -> Any:
    admitted: list[Any] = [(stand_in, name) for name, stand_in in ADMITTED.items()]
    try:
        if data.startswith(b"PK\x03\x04"):
            # torch stores tensors uncompressed: a file that unpacks to many times its size is a zip bomb
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _EXPANSION * len(data) + _SMALL:
                    raise zipfile.BadZipFile("it unpacks to many times its size")
        with torch.serialization.safe_globals(admitted), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storages and types in old files
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        raise UnreadableError(_reason(path, error)) from error


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    wanted = re.search(r"(?:global: GLOBAL|unsupported GLOBAL|unrecognized function) (\S+)", text)
    if wanted is not None:
        name = printable(wanted[1], limit=60)
        return (
            f"{path} needs {name}, and only tensors and plain values are read from a file; nothing in it was "
            "executed: if you trust its author, save the network's state_dict() alone and import that"
        )
    if isinstance(error, pickle.UnpicklingError | TypeError) and "Unsupported operand" not in text:
        return f"{path} builds an object of a kind that is not read; nothing in it was executed"
    if "TorchScript" in text:
        return f"{path} is a TorchScript program: save the state_dict() of the network and import that"
    return f"{path} is truncated, damaged or no checkpoint of torch: copy or download it again"


_CODES = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "f2": "e", "f4": "f", "f8": "d"}
_CODES |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}  # NumPy's codes of numbers, and those of `struct`


class _ScalarType:
    """Stands in for `numpy.dtype` in a pickle: the code of a number and its byte order. ValueError for other types."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or code not in _CODES:
            raise ValueError(f"not the NumPy type of a number: {code!r}")
        self._code, self._order = code, "<"

    def __setstate__(self, state: Any) -> None:
        """Of numpy's state (version, byte order, ...) only the byte order is used."""
        self._order = {"<": "<", ">": ">", "|": "<", "=": "="}[state[1]]

    def unpack(self, data: bytes) -> bool | int | float:
        """The number in `data`. struct.error if the length is not the type's."""
        number: bool | int | float = struct.unpack(self._order + _CODES[self._code], data)[0]
        return number


def _scalar(kind: _ScalarType, data: bytes) -> bool | int | float:
    """Stands in for `numpy.core.multiarray.scalar`: the number as Python's own type."""
    if type(kind) is not _ScalarType or not isinstance(data, bytes):
        raise ValueError("not a NumPy scalar of a number")
    return kind.unpack(data)


# NumPy scalars (`best_acc` of many trainers) are rebuilt without NumPy's own reconstructors, which take a state that
# can describe any memory layout. NumPy 1 and NumPy 2 write different names.
ADMITTED: dict[str, Any] = {
    "argparse.Namespace": argparse.Namespace,
    "numpy.dtype": _ScalarType,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}


def _state_dict(path: Path, content: object, places: Sequence[str]) -> tuple[str, Mapping[Any, Any]]:
    """The first of these keys that holds a state dict ("" stands for the file itself), and the state dict."""
    if not isinstance(content, Mapping):
        raise UnreadableError(f"{path} holds no state dict but {_kind(content)}: save the network's state_dict()")
    for place in places:
        state = content.get(place) if place else content
        if isinstance(state, Mapping) and any(isinstance(item, Tensor) for item in state.values()):
            return place, state
    keys = ", ".join(printable(str(key), limit=30) for key in list(content)[:8]) or "none"
    raise UnreadableError(f"{path} holds no state dict under {', '.join(filter(None, places))}; its keys are {keys}")


def _check(path: Path, name: str, value: object) -> None:
    """Raise UnreadableError unless this is a dense tensor of real numbers."""
    shown = printable(name)
    if not isinstance(value, Tensor):
        raise UnreadableError(f"{path}: {shown} is {_kind(value)} where a tensor is expected: save state_dict() alone")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_complex():
        raise UnreadableError(f"{path}: {shown} is no dense tensor of real numbers: save the weights as such")


def _student(state: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The entries of the student under its own names, and the parts that were left out."""
    names = dict(state)
    ignored: set[str] = set()
    while True:
        for wrapper in WRAPPERS:
            if names and all(name.startswith(wrapper) for name in names):
                names = {name.removeprefix(wrapper): value for name, value in names.items()}
                break
        else:
            if not any(name.startswith(STUDENT) for name in names):
                return names, tuple(sorted(ignored))
            ignored |= {name.partition(".")[0] for name in names if not name.startswith(STUDENT)}
            names = {name.removeprefix(STUDENT): item for name, item in names.items() if name.startswith(STUDENT)}


def _others(beside: Mapping[Any, Any], place: str, tensors: Mapping[str, Any]) -> Iterator[str]:
    """The keys of states beside the one at `place` that have tensors of the same names and shapes."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for key, value in beside.items():
        if (
            key != place
            and isinstance(key, str)
            and isinstance(value, Mapping)
            and all(isinstance(n, str) for n in value)
        ):
            found, _ = _student(value)
            if shapes == {name: getattr(tensor, "shape", None) for name, tensor in found.items()}:
                yield key


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"


def _layout(place: str, others: Mapping[Any, Any], ignored: tuple[str, ...]) -> str:
    if not place:
        return "state dict"
    if place != "model":
        return f"checkpoint ({place})"
    if "teacher" in ignored:
        return "mdistiller"
    if set(others) == {"model"}:
        return "mdistiller student"
    return "RepDistiller" if {"opt", "accuracy", "best_acc"} & set(others) else "checkpoint (model)"


def _epoch(others: Mapping[Any, Any]) -> int | None:
    number = _number(others.get("epoch"))
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _claim(others: Mapping[Any, Any]) -> Claim | None:
    for key in (*LAST_CLAIMS, *BEST_CLAIMS):
        number = _number(others.get(key))
        if number is not None and 0 <= number <= 100:
            # nobody stores a network with less than one percent, so a number below 1 is a fraction
            return Claim(float(f"{100 * number:.12g}") if number < 1 else number, key)
    return None


def _number(value: object) -> float | None:
    """A finite number, also one in a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu" and not value.is_complex():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None
