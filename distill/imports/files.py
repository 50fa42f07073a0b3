"""A file of weights as tensors and plain values: torch's zip and non-zip pickles, and safetensors.

Nothing in a file is executed: torch's restricted unpickler builds tensors and plain values, and beside them only what
`ADMITTED` names, which can do nothing but hold values.
"""

import argparse
import hashlib
import io
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from distill.imports import numpy_scalars
from distill.runs.files import explain

SAFETENSORS, ZIP, PICKLE = "safetensors", "torch zip", "torch non-zip"
ADMITTED: dict[str, Any] = {"argparse.Namespace": argparse.Namespace, **numpy_scalars.NAMES}

_LONGEST_HEADER = 100_000_000
_EXPANSION, _SMALL = 4, 1 << 20

# how other files begin: the remedy is what people need to hear
_OTHERS = (
    (0, b"\x1f\x8b", "is compressed (gzip): unpack it, and import the checkpoint of one network"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (0, b"<", "is a web page, not weights: download the file itself"),
    (257, b"ustar", "is a tar archive: unpack it, and import the checkpoint of one network"),
)


class UnreadableError(ValueError):
    """The file holds no weights that may be read; the message is one sentence that says why."""


@dataclass(frozen=True)
class Contents:
    """What a file holds, the kind of its container, and the sha256 of its bytes."""

    content: Any
    container: str
    sha256: str


def read_contents(path: Path) -> Contents:
    """Read `path` without executing anything in it; tensors are on the CPU.

    Raises:
        UnreadableError: missing, empty, truncated, no weights, or more in it than tensors and plain values.
    """
    if path.is_dir():
        raise UnreadableError(f"{path} is a folder: name the file with the weights in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError(f"there is no file {path}: name the file with the weights") from error
    except OSError as error:
        raise UnreadableError(explain(path, error, action="read")) from error
    container = _container(path, data)
    read = _read_safetensors if container == SAFETENSORS else _read_pickle
    return Contents(read(path, data), container, hashlib.sha256(data).hexdigest())


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors do; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _begins_safetensors(file.read(9))
    except OSError:
        return False


def _begins_safetensors(data: bytes) -> bool:
    """Eight bytes with the length of a JSON header, which safetensors limit, and its brace."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LONGEST_HEADER


def _container(path: Path, data: bytes) -> str:
    """The kind of the file by its first bytes: its name says nothing. Raises UnreadableError."""
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


def _read_safetensors(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    # what its parser raises, and torch where a type or size in the header is not possible
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AssertionError) as error:
        raise UnreadableError(f"{path} is truncated or damaged safetensors: copy or download it again") from error


def _read_pickle(path: Path, data: bytes) -> Any:
    admitted: list[Any] = [(stand_in, name) for name, stand_in in ADMITTED.items()]
    try:
        _refuse_bombs(data)
        with torch.serialization.safe_globals(admitted), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages and types that old files use
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes of the reader
        raise UnreadableError(_why(path, error)) from error


def _refuse_bombs(data: bytes) -> None:
    """torch stores tensors as they are: a file that unpacks to many times its size is none of its own."""
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _EXPANSION * len(data) + _SMALL:
                raise zipfile.BadZipFile("it unpacks to many times its size")


def _why(path: Path, error: Exception) -> str:
    text = str(error)
    asked = re.search(r"(?:global: GLOBAL|unsupported GLOBAL|unrecognized function) (\S+)", text)
    if asked is not None:
        name = printable(asked[1], limit=60)
        return (
            f"{path} asks for {name}, and only tensors and plain values are read from a file; nothing in it was "
            "executed: if you trust its author, save the network's state_dict() alone and import that"
        )
    if isinstance(error, pickle.UnpicklingError | TypeError) and "Unsupported operand" not in text:
        return f"{path} builds something out of the ordinary, which is not read; nothing in it was executed"
    if "TorchScript" in text:
        return f"{path} is a TorchScript program: save the state_dict() of the network and import that"
    return f"{path} is truncated, damaged or no checkpoint of torch: copy or download it again"


def printable(text: str, *, limit: int = 80) -> str:
    """A name out of a file as it may be shown on a terminal."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
