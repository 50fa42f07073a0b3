"""Checkpoints and weights as safetensors (tensors and JSON, never a pickle), and when to write a checkpoint.

`last.safetensors` is replaced in one rename and the generation before it is kept as `previous.safetensors`,
so a process that is killed at any instant, or a file that is damaged later, costs at most one interval of
work.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from distill.runs import files
from distill.runs.layout import LAST, PREVIOUS


class Loaded(NamedTuple):
    """A checkpoint on the CPU; `note` is a sentence if the newest generation could not be used, else None."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    note: str | None


class _DamagedError(Exception):
    """The file is not a complete checkpoint; the message is the reason."""


def save_checkpoint(directory: Path, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
    """Write a new `last.safetensors` and keep the one before as `previous.safetensors`; neither is ever missing.

    `tensors`: any shapes, devices and strides; of tied tensors each name gets its own copy. `state`: JSON
    data (it comes back as JSON: tuples as lists, keys as strings; nan and inf stay). Raises StorageError,
    both files intact.
    """
    host = _on_host(tensors)
    text = json.dumps(dict(state))
    data = _serialise(host, {"state": text, "sha256": _digest(host, text)})
    with files.replacing(directory / LAST) as temporary:
        files.write_synced(temporary, data)
        _keep_previous(directory)


def load_checkpoint(directory: Path) -> Loaded | None:
    """The newest whole checkpoint, verified against its digest; None if there is none.

    A damaged `last.safetensors` is replaced by the previous generation (else the next save would push the
    damaged file over the good one), and the note says so. Raises StorageError when no generation can be used.
    """
    faults: dict[str, str] = {}
    for name in (LAST, PREVIOUS):
        try:
            tensors, state = _read(directory / name)
        except FileNotFoundError:
            faults[name] = "missing"
        except _DamagedError as error:
            faults[name] = str(error)
        else:
            return Loaded(tensors, state, _fall_back(directory, faults[LAST]) if faults else None)
    if set(faults.values()) == {"missing"}:
        return None
    reasons = ", ".join(f"{name}: {reason}" for name, reason in faults.items())
    raise files.StorageError(
        f"no checkpoint of {directory} can be used ({reasons}): delete this folder to start the run again"
    )


def remove_checkpoints(directory: Path) -> None:
    """Removes both generations, where there are any. Raises StorageError."""
    with files.storage_errors(directory):
        for name in (LAST, PREVIOUS):
            (directory / name).unlink(missing_ok=True)


def save_weights(path: Path, state_dict: Mapping[str, Tensor]) -> str:
    """Writes the tensors atomically; returns the sha256 of the file. Equal tensors give equal bytes."""
    data = _serialise(_on_host(state_dict), None)
    files.write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_weights(path: Path, *, expected_sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of `path` on the CPU. Raises StorageError: missing, damaged or another file."""
    with files.storage_errors(path, action="read"):
        data = files.read_record(path, largest=None)
    found = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and found != expected_sha256:
        raise files.StorageError(
            f"{path} is not the file its run recorded: its sha256 is {found[:12]}..., the recorded one "
            f"{expected_sha256[:12]}...; restore the file, or delete the folder to train the run again"
        )
    try:
        return _parse(data)
    except _DamagedError as error:
        raise files.StorageError(f"{path} holds no weights ({error}): restore the file") from error


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, as safetensors requires; copies only if needed."""
    host: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise ValueError(f"tensor {name} must be dense, got {tensor.layout}: save tensor.to_dense()")
        own = tensor.detach().to("cpu").contiguous()
        if own.untyped_storage().data_ptr() in storages:
            own = own.clone()
        storages.add(own.untyped_storage().data_ptr())
        host[name] = own
    return host


def _serialise(host: dict[str, Tensor], metadata: dict[str, str] | None) -> bytes:
    try:
        return safetensors.torch.save(host, metadata=metadata)
    except KeyError as error:
        raise ValueError(f"safetensors cannot store {error}: save the tensor as another type") from error


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    """sha256 over the state and every tensor's name, dtype, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(state.encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode("utf-8"))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _keep_previous(directory: Path) -> None:
    last, previous = directory / LAST, directory / PREVIOUS
    if not last.exists():
        return
    spare = files.temporary_path(previous)
    try:
        try:
            os.link(last, spare)
        except OSError:  # a file system without hard links: copy instead, where any other error occurs again
            files.write_synced(spare, files.read_record(last, largest=None))
        os.replace(spare, previous)
    finally:
        # renaming one hard link onto another of the same file does nothing and leaves both names
        spare.unlink(missing_ok=True)


def _fall_back(directory: Path, reason: str) -> str:
    with files.replacing(directory / LAST) as temporary:
        files.write_synced(temporary, files.read_record(directory / PREVIOUS, largest=None))
    return f"{directory / LAST} could not be used ({reason}): continuing from the checkpoint before it"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        data = files.read_record(path, largest=None)
    except FileNotFoundError:
        raise
    except files.StorageError as error:
        raise _DamagedError("not a regular file") from error
    except OSError as error:
        raise files.StorageError(files.explain(path, error, action="read")) from error
    tensors = _parse(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if "state" not in metadata or "sha256" not in metadata:
        raise _DamagedError("not a checkpoint")
    if _digest(tensors, metadata["state"]) != metadata["sha256"]:
        raise _DamagedError("its content does not match its digest")
    state = json.loads(metadata["state"])
    return tensors, state


def _parse(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise _DamagedError("truncated or not safetensors") from error


SHARE = 0.02  # of a run's time that its checkpoints may take


class CheckpointSchedule:
    """At most one checkpoint every `interval` seconds (>= 0), and saving takes at most `share` of the elapsed time.

    The first checkpoint is written after `interval` whatever it takes: its cost is not known before.

    Args:
        interval: seconds between two checkpoints, at least.
        share: of the elapsed time, 0 < `share` <= 1.
        clock: seconds that only increase.
    """

    def __init__(self, interval: float, *, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._share = share
        self._clock = clock
        self._start = self._saved_at = clock()
        self._cost = 0.0  # of the last save
        self._spent = 0.0

    def due(self) -> bool:
        """Whether a checkpoint may be written now; cheap enough to be called after every step."""
        now = self._clock()
        affordable = self._spent + self._cost <= self._share * (now - self._start)
        return affordable and now - self._saved_at >= self._interval

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Times the save in this block, scheduled or not (a process that is about to stop saves at once)."""
        begin = self._clock()
        try:
            yield
        finally:
            self._saved_at = self._clock()
            self._cost = self._saved_at - begin
            self._spent += self._cost
