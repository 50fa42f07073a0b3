"""The allowed content of a run's records, so that their readers need no checks of their own; and the seal.

The seal is the digests of a run's records, kept in `result.json`, or in the checkpoint until the run is finished. It
detects accidental edits. It does not protect against deliberate ones, since anyone can compute the digests again.
Records of earlier versions have no seal, and are read without this check.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union

from distill.runs.files import StorageError, epoch_of, finite, read_lines, whole_lines
from distill.runs.layout import CONFIG, FAILED, LAST, METRICS, RESULT

SEAL = "seal"  # its key
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
LONGEST_HEADER = 64 * 2**20  # of a checkpoint, in bytes

# What the value of a key must be: of this type, accepted by this function, or a mapping of this shape. A missing key
# and null fit every shape.
Shape = dict[str, Union[type, Callable[[Any], bool], "Shape"]]


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _percent(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 100


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _numbers(value: object) -> bool:
    """A mapping of numbers, or of such mappings."""
    return isinstance(value, dict) and all(v is None or _number(v) or _numbers(v) for v in value.values())


_EPOCH: Shape = {
    "epoch": int,
    "accuracy": _percent,
    "top5": _percent,
    "correct": int,
    "count": int,
    "loss": _number,
}
_NODE: Shape = {"_target_": str}
_TEACHER: Shape = {"run_id": str, "weights_sha256": str, "source": str, "accuracy": _percent}
_OF_SEAL: Shape = {SEAL: _texts}
_OF_RESULT: Shape = {
    "run_id": str,
    SEAL: _texts,
    "weights_sha256": str,
    "ema_sha256": str,
    "split": str,
    "precision": str,
    **dict.fromkeys(("classes", "parameters", "epochs", "image_size", "side_by_side", "peak_memory_bytes"), int),
    "seconds": _number,
    "last": {**_EPOCH, "ema": _EPOCH},
    "best": _EPOCH,
    "teacher": _TEACHER,
    "imported": {"accuracy": str, "claimed": _percent, "claimed_as": str},
    "restored": {
        "weights_sha256": str,
        "measured": _percent,
        "recorded": {"weights_sha256": str, "accuracy": _percent},
    },
}
_OF_CONFIG: Shape = {
    "names": _texts,
    "config": {
        "dataset": _NODE,
        "student": _NODE,
        "loss": _NODE,
        "recipe": {**_NODE, "epochs": int},
        "teacher": {"network": _NODE, "loss": _NODE, "recipe": _NODE, "seed": int, "run": str, "source": str},
        "start": dict,
        "engine": dict,
    },
    "identity": {
        "seed": int,
        "precision": str,
        "data": {"holdout": int},
        "student": dict,
        "objective": dict,
        "recipe": dict,
    },
}
_OF_FAILURE: Shape = {"epoch": int, "step": int, **dict.fromkeys(("term", "message", "when"), str)}
_OF_METRICS: Shape = {
    "epoch": int,
    **dict.fromkeys(("train", "gradient_norms"), _numbers),
    **dict.fromkeys(("test", "holdout", "ema"), _EPOCH),
    "learning_rate": _number,
}
# what the records of a finished run must hold, so that it can be reported, can teach and can be evaluated again
_NEEDED = {
    RESULT: (
        *("weights_sha256", "classes", "seconds", "split"),
        *("last.epoch", "last.accuracy", "best.epoch", "best.accuracy"),
    ),
    CONFIG: ("config.student", "config.dataset", "identity.precision"),
}


def check_config(content: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the key, where a value of a `config.yaml`, or of a part of one, is of a wrong type."""
    key = _misfit(content, _OF_CONFIG)
    if key is not None:
        raise ValueError(_wrong(key))


def check_result(path: Path, result: Mapping[str, Any]) -> None:
    """Raises StorageError, naming file and key, where a value of a `result.json` is of a wrong type or range."""
    _check(path, RESULT, result, _OF_RESULT)


def check_failure(path: Path, failure: Mapping[str, Any]) -> None:
    """Raises StorageError, naming file and key, where a value of a `failed.json` is of a wrong type."""
    _check(path, FAILED, failure, _OF_FAILURE)


def sealed(result: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of a `result.json` with the digests of itself and of the run's other records (name: bytes)."""
    content, seal = {key: finite(value) for key, value in result.items()}, digests(files)  # as JSON will hold it
    return {**content, SEAL: {**seal, RESULT: _digest_of_result(content, seal)}}


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The sha256 of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def seal_of(path: Path, result: Mapping[str, Any] | None) -> Mapping[str, str]:
    """The digests of a run's records: those with its result, else those in its checkpoint; empty without a seal.

    Raises StorageError where the result is not the one that was sealed.
    """
    if result is None:
        seal = _state_of_checkpoint(path).get(SEAL)
        return dict(seal) if isinstance(seal, dict) and _texts(seal) else {}
    if result.get(SEAL) is None:
        return {}
    _check(path, RESULT, result, _OF_SEAL)
    seal = dict(result[SEAL])
    if seal.pop(RESULT, "") != _digest_of_result(result, seal):
        raise StorageError(changed(path / RESULT))
    return seal


def changed(path: str | Path) -> str:
    """The sentence about a record that is not the one that was sealed."""
    return f"{path} has been changed since it was recorded: restore it, or delete its folder to train the run again"


def _digest_of_result(result: Mapping[str, Any], seal: Mapping[str, str]) -> str:
    return hashlib.sha256(_ENCODER.encode({**result, SEAL: seal}).encode("ascii")).hexdigest()


def _state_of_checkpoint(path: Path) -> Mapping[str, Any]:
    """The plain values of the newest checkpoint, read without its tensors; empty where there is none that is whole."""
    try:
        descriptor = os.open(path / LAST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            header = file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER))
        state = json.loads(json.loads(header)["__metadata__"]["state"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # training reads and reports it
        return {}
    return state if isinstance(state, dict) else {}


def read_metrics(path: Path, result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The lines of a run's metrics; `result` is its `result.json`.

    Raises StorageError where they are not those that were sealed, or a value is of a wrong type or range.
    """
    lines = read_lines(path / METRICS)
    seal = seal_of(path, result)
    if METRICS in seal and lines:
        last = math.inf if result is not None else _state_of_checkpoint(path).get("epoch", 1) - 1
        if digest_of_metrics(path, last) != seal[METRICS]:
            raise StorageError(changed(path / METRICS))
    for line in lines:
        _check(path, METRICS, line, _OF_METRICS)
    return lines


def digest_of_metrics(path: Path, last_epoch: float) -> str:
    """The sha256 of the lines of a run's metrics up to an epoch."""
    lines = (line for line, record in whole_lines(path / METRICS) if epoch_of(record) <= last_epoch)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def lacking(path: Path, config: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """A sentence where the records of a finished run lack something that later work needs; else None."""
    for name, content in ((RESULT, result), (CONFIG, config)):
        for key in _NEEDED[name]:
            value: Any = content
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is None:
                return _damaged(path / name, key)
    return None


def _check(path: Path, name: str, content: Mapping[str, Any], shape: Shape) -> None:
    key = _misfit(content, shape)
    if key is not None:
        raise StorageError(_damaged(path / name, key))


def _misfit(content: Mapping[str, Any], shape: Shape) -> str | None:
    """The dotted key of the first value that does not fit."""
    for key, kind in shape.items():
        value = content.get(key)
        if value is None or type(value) is kind:  # True is no int
            continue
        if isinstance(kind, dict):
            inner = _misfit(value, kind) if isinstance(value, dict) else ""
            if inner is not None:
                return f"{key}.{inner}".rstrip(".")
        elif isinstance(kind, type) or not kind(value):
            return key
    return None


def _damaged(path: Path, key: str) -> str:
    return f"{path} is damaged: {_wrong(key)}"


def _wrong(key: str) -> str:
    return f"its key '{key}' is missing or of a wrong type"
