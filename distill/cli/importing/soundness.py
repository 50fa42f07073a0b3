"""Whether the files of a run from elsewhere say one and the same thing; nothing they name is built or imported."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

import distill.training
from distill.config.identity import canonical_node
from distill.config.plan import split_stages
from distill.config.rebuild import LOSSES, TRUSTED_METHODS, exported
from distill.exports.folder import RECORD
from distill.runs import files
from distill.runs.config_file import COPY, copy_agrees
from distill.runs.files import StorageError
from distill.runs.identity import canonical, run_id
from distill.runs.layout import CONFIG, FIRST_STAGE, METRICS, PROVENANCE, RESULT, STUDENT
from distill.runs.lines import read_lines
from distill.runs.store import RunRecord, damage

# what a node may name to be looked up here, and compared with the identity
KNOWN = TRUSTED_METHODS | exported(distill.training, torch.optim)
FOREIGN = "weights"  # in the identity of a run made of somebody else's weights, whose id digests other things


def unsound(record: RunRecord) -> str | None:
    """What is wrong with a finished run, as a sentence; None where its files agree with its id and with each other."""
    if (record.path / RECORD).is_file():
        return f"{record.path} is an export, not a run: import its weights as a file"
    try:
        return (
            damage(record)
            or _changed_identity(record)
            or _changed_config(record)
            or _changed_result(record)
            or _changed_metrics(record)
            or _changed_weights(record)
        )
    except StorageError as error:
        return str(error)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"{record.path} is damaged: {type(error).__name__}: {error}".splitlines()[0]


def _changed_identity(record: RunRecord) -> str | None:
    path = record.path / CONFIG
    if not copy_agrees(record.path):
        return f"{path} has been changed: {COPY} beside it says something else"
    if FOREIGN in record.identity:
        recorded = (record.result or {}).get("weights_sha256")
        same = record.identity[FOREIGN] == recorded
        return None if same else f"{path} has been changed: it names other weights than the result"
    if run_id(record.identity) == record.run_id:
        return None
    return f"{path} has been changed: its identity is not that of run {record.run_id}"


def _changed_config(record: RunRecord) -> str | None:
    """The parts of the configuration, as far as they name nothing of the user's, against what the id digests."""
    identity, config = record.identity, record.config
    loss, _ = split_stages(config.get("loss"))
    objective = identity["objective"]
    pairs = {
        "seed": (config.get("seed"), identity["seed"]),
        "precision": (config.get("precision"), identity["precision"]),
        "student": (_as_identified(config.get("student")), identity["student"]),
    }
    if FOREIGN not in identity:
        without = {key: value for key, value in objective.items() if key != FIRST_STAGE}
        pairs["loss"] = (_as_identified(loss), without)
        pairs["recipe"] = (_as_identified(config.get("recipe")), identity["recipe"])
    for key, (said, identified) in pairs.items():
        if said is not None and canonical(said) != canonical(identified):
            return f"{record.path / CONFIG} has been changed: its {key} is not what the run's id digests"
    return None


def _as_identified(node: Any) -> dict[str, Any] | None:
    """A node in the form of identities; None where that takes an import of something that is not ours."""
    if not isinstance(node, Mapping):
        return {}
    if all(target in KNOWN or target.startswith(LOSSES) for target in _targets(node)):
        return canonical_node(node)
    return None


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _changed_result(record: RunRecord) -> str | None:
    result = record.result or {}
    path = record.path / RESULT
    if result.get("run_id", record.run_id) != record.run_id:
        return f"{path} belongs to run {result['run_id']}, not {record.run_id}"
    for name in ("last", "best"):
        found = result[name]
        accuracy = found["accuracy"]
        if not (math.isfinite(accuracy) and 0 <= accuracy <= 100):
            return f"{path} is damaged: an accuracy lies between 0 and 100, got {accuracy}"
        if "correct" in found and not math.isclose(accuracy, 100 * found["correct"] / found["count"], abs_tol=1e-6):
            return f"{path} has been changed: {found['correct']} of {found['count']} are not {accuracy} %"
    files.read_json(record.path / PROVENANCE)
    return None


def _changed_metrics(record: RunRecord) -> str | None:
    """Against the result, epoch by epoch; runs from other people's weights have none."""
    path, result = record.path / METRICS, record.result or {}
    if FOREIGN in record.identity or not path.is_file():
        return None
    epochs = {line["epoch"]: line for line in read_lines(path)}
    if sorted(epochs) != list(range(1, result["epochs"] + 1)):
        return f"{path} is damaged: it does not hold the epochs 1 to {result['epochs']}"
    remeasured = (result.get("restored") or {}).get("measured") is not None
    for name in ("best",) if remeasured else ("last", "best"):
        said, known = result[name]["accuracy"], epochs[result[name]["epoch"]][result["split"]]["accuracy"]
        if known != said:
            return f"{record.path / RESULT} has been changed: {name} is {said} %, in {METRICS} {known} %"
    return None


def _changed_weights(record: RunRecord) -> str | None:
    path = record.path / STUDENT
    if not path.is_file():
        return None
    with files.storage_errors(path, action="read"), path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    known = (record.result or {})["weights_sha256"]
    if found == known:
        return None
    return f"{path} is not the file its run recorded: its sha256 is {found[:12]}..., the record says {known[:12]}..."


def same_run(one: RunRecord, other: RunRecord) -> bool:
    """Whether two finished runs of one id ended alike: the same weights, and the same accuracies."""
    keys = ("weights_sha256", "last", "best", "split")
    return all(_text(one, key) == _text(other, key) for key in keys)


def _text(record: RunRecord, key: str) -> str:
    return json.dumps((record.result or {}).get(key), sort_keys=True)
