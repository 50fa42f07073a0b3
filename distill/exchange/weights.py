"""A finished run made of another project's weights: composed, loaded, measured and written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from distill.config.build import build_dataset
from distill.config.check import check_target, resolve
from distill.config.compose.composer import Composed
from distill.config.compose.names import run_names
from distill.config.compose.presets import Presets
from distill.config.faults import Fault, Refused
from distill.config.identity import canonical_network, canonical_node, run_folder
from distill.config.rebuild import WITHOUT_DOWNLOAD, located
from distill.config.rehearsal import check_network
from distill.config.weights import network_with_weights
from distill.data import SHAPES, Dataset
from distill.exchange.load import data_at_hand, measure_accuracy
from distill.exchange.restore import finished_at, locked, now, write_records
from distill.runs import files
from distill.runs.checkpoint import load_weights
from distill.runs.foreign import Checkpoint
from distill.runs.identity import NUMERICS_VERSION
from distill.runs.identity import run_id as digest_of
from distill.runs.layout import STUDENT
from distill.runs.provenance import collect
from distill.runs.store import weightless
from distill.tables.values import PLACES
from distill.training import Evaluation

GROUPS = ("student", "dataset")
METHOD = "imported"
PRECISION = "fp32"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """The checked nodes of student and data set, their names as tables show them, and the folder of own presets."""

    nodes: Mapping[str, Mapping[str, Any]]
    names: Mapping[str, str]
    config_dir: Path | None


def compose_parts(
    pairs: Mapping[str, str], places: Mapping[str, Any], *, config_dir: Path | None
) -> tuple[Parts, list[Fault]]:
    """Compose the groups that the command names; returns them and everything that is wrong with them.

    Args:
        pairs: the command's words, `student=NAME`, `dataset=NAME` and dotted keys below them.
        places: where the data lie: of `npz`, `root` and `download` what the command gives. Paths need not follow
            Hydra's grammar, so they are not among the overrides.
        config_dir: the folder of the user's presets.
    """
    presets = Presets(config_dir)
    aside = {f"dataset.{place}" for place in PLACES}
    words = [f"{group}={pairs[group]}" for group in GROUPS if group in pairs]
    words += [f"{k}={value}" for k, value in pairs.items() if k.startswith(("student.", "dataset.")) and k not in aside]
    parsed, faults = presets.parse(words)
    wrong = {fault.key for fault in faults if fault.kind == "option"}
    several = [override for override in parsed if override.is_sweep_override()]
    faults += (
        Fault(override.key_or_group, "value", f"{override.input_line} names several values: choose one")
        for override in several
    )
    job = presets.compose([presets.text(override) for override in parsed if override not in several])
    faults += [] if job.config else job.faults
    wrong |= {override.key_or_group.partition(".")[0] for override in several}
    own = {"student"} if "student._target_" in pairs else set()
    chosen = [group for group in GROUPS if group in own | pairs.keys() and group not in wrong and job.config]
    nodes = {group: _node(job, group, places, faults) for group in chosen}
    names = run_names(job, job.config, presets) if job.config and not faults else {}
    return Parts(nodes, names, config_dir), faults


def _node(job: Composed, group: str, places: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    node = dict(job.config.get(group) or {})
    faults += (fault for fault in job.faults if fault.within(group))
    if group == "dataset":
        unknown = [place for place in places if place not in node]
        option = job.choices["dataset"]
        faults += (
            Fault(f"dataset.{place}", "key", f"dataset.{place} is not a key of {option}: leave it out")
            for place in unknown
        )
        node = located(node, {place: value for place, value in places.items() if place in node})
    else:  # the file's weights replace whatever a network begins with
        node |= {key: value for key, value in WITHOUT_DOWNLOAD.items() if key in node}
    return check_target(node, group, faults)


def import_weights(
    checkpoint: Checkpoint,
    parts: Parts,
    runs_dir: Path,
    *,
    data_needed: bool,
    device: torch.device,
    say: Say,
    warn: Say,
) -> None:
    """Make a finished run of a checkpoint; one whose accuracy was only claimed is measured as soon as it can be.

    Args:
        checkpoint: the weights and what their file states.
        parts: student and data set.
        runs_dir: where the run is written.
        data_needed: whether the user said where the data lie, so that it is an error if they are not there.
        device: where the accuracy is measured.
        say: prints a line.
        warn: prints a line to stderr.

    Raises:
        Refused: everything wrong with file or data, or there is neither a stated accuracy nor data to measure one.
        Busy, StorageError: the run's folder is in use, damaged, or cannot be written to.
    """
    network, dataset, (classes, image_size) = _filled(checkpoint, parts, data_needed=data_needed)
    weights = safetensors.torch.save({n: tensor.contiguous().clone() for n, tensor in network.state_dict().items()})
    identity = _identity(parts.nodes, dataset, sha256(weights).hexdigest())
    run_id, claim = _run_id(identity, parts.nodes["dataset"], dataset), checkpoint.claim
    target = run_folder({**identity, "seed": 0}, runs_dir, run_id=run_id)
    if _is_there(target, run_id, checkpoint, measurable=dataset is not None, say=say, warn=warn):
        return
    if dataset is None and (claim is None or claim.is_best):
        stated = "no accuracy" if claim is None else f"the best accuracy of its training only ({claim.key})"
        text = f"{checkpoint.path} states {stated}, and the data to measure its weights are not here"
        raise Refused([f"{text}: add dataset.npz=FILE or dataset.root=DIR"])
    with locked(target):
        files.write_bytes(target / STUDENT, weights)
        found = None if dataset is None else measure_accuracy(network, dataset, device=device, precision=PRECISION)
        facts = {**checkpoint.metadata, "measured": None if found is None else found.accuracy}
        provenance = collect(device, precision=PRECISION, teacher=None, imported=facts)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        shape = {"parameters": parameters, "classes": classes, "image_size": image_size}
        write_records(
            target,
            config=_config(run_id, identity, parts, claimed=found is None),
            provenance={**provenance, "started": now(), "sessions": []},
            result={"run_id": run_id, **_result(checkpoint, found), **shape, "weights_sha256": identity["weights"]},
        )
    in_epoch = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    without = f", without its {' and '.join(checkpoint.ignored)}" if checkpoint.ignored else ""
    say(f"{checkpoint.path}: {checkpoint.layout}, {checkpoint.container}{in_epoch}{without}")
    if checkpoint.others:
        one = checkpoint.others[0]
        say(f"it holds other weights of this network under {', '.join(checkpoint.others)}: state={one} imports them")
    if found is not None:
        say(f"measured on the test set of {parts.names['dataset']}: {found}, {PRECISION}, {device}")
        _compare_with_claim(checkpoint, found, warn=warn)
    elif claim is not None:
        say(
            f"not measured, since the data of {parts.names['dataset']} are not here (dataset.npz=FILE, "
            f"dataset.root=DIR): the claimed accuracy is recorded, {claim.accuracy:.2f} % ({claim.key})"
        )
    say(f"{target}: finished; use it as teacher.run={run_id}")


def _is_there(target: Path, run_id: str, checkpoint: Checkpoint, *, measurable: bool, say: Say, warn: Say) -> bool:
    """Whether the file has been imported before; then that run's accuracy is printed.

    An import without weights, or with a claimed accuracy that can be measured now, is written again.
    """
    there = finished_at(target)
    if there is None or there.result is None or weightless(target):
        return False
    load_weights(target / STUDENT, expected_sha256=there.result["weights_sha256"])  # raises if damaged
    last, claimed = there.result["last"], (there.result.get("imported") or {}).get("accuracy") == "claimed"
    if measurable and claimed:
        return False
    accuracy = f"{there.result['split']} {last['accuracy']:.2f} % ({'claimed' if claimed else 'measured'})"
    say(f"{target} is there already: {accuracy}; use it as teacher.run={run_id}")
    if not claimed and {"correct", "count", "loss"} <= last.keys():
        measured = Evaluation(last["correct"], last["count"], last["accuracy"], last["loss"])
        _compare_with_claim(checkpoint, measured, warn=warn)
    return True


def _config(run_id: str, identity: Mapping[str, Any], parts: Parts, *, claimed: bool) -> dict[str, Any]:
    """The content of the run's config.yaml."""
    loss = f"{METHOD} accuracy=claimed" if claimed else METHOD
    without = dict.fromkeys(("teacher", "loss", "recipe"))
    return {
        "run_id": run_id,
        "names": {**parts.names, "teacher": "none", "loss": loss, "recipe": METHOD},
        "config": {"seed": 0, "precision": PRECISION, **without, **{group: parts.nodes[group] for group in GROUPS}},
        "identity": identity,
    }


def _result(checkpoint: Checkpoint, found: Evaluation | None) -> dict[str, Any]:
    """What result.json records of the accuracy: measured, else claimed by the file."""
    claim, epoch = checkpoint.claim, checkpoint.epoch or 0
    claimed = {} if claim is None else {"accuracy": claim.accuracy}
    last = {"epoch": epoch, **(claimed if found is None else found.as_dict())}
    # the weights stand for the last epoch and for the best, unless the file says that the best was better
    is_better = claim is not None and claim.is_best and claim.accuracy > last["accuracy"]
    return {
        "finished": now(),
        "seconds": 0.0,
        "epochs": epoch,
        "split": "test",
        "last": last,
        "best": {"epoch": epoch, **claimed} if is_better else last,
        "precision": PRECISION,
        "teacher": None,
        "imported": {
            "accuracy": "claimed" if found is None else "measured",
            "claimed": None if claim is None else claim.accuracy,
            "claimed_as": None if claim is None else claim.key,
        },
    }


def _filled(
    checkpoint: Checkpoint, parts: Parts, *, data_needed: bool
) -> tuple[nn.Module, Dataset | None, tuple[int, int]]:
    """The network with the checkpoint's weights, the data if they are here, and (classes, image size)."""
    student, node = parts.nodes["student"], parts.nodes["dataset"]
    if node.get("holdout"):
        raise Refused(
            ["dataset.holdout must be 0, since imported weights may have been trained on those images: leave it out"]
        )
    fixed = SHAPES.get(resolve(str(node["_target_"])))
    dataset = data_at_hand(lambda: build_dataset(node), needed=data_needed or fixed is None)
    shape = fixed if dataset is None else (dataset.num_classes, dataset.image_size)
    assert shape is not None
    faults: list[Fault] = []
    check_network(student, shape, "student", faults)
    if faults:
        raise Refused(faults)
    name = f"student={parts.names['student']}"
    network = network_with_weights(checkpoint, student, name=name, classes=shape[0], config_dir=parts.config_dir)
    return network, dataset, shape


def _identity(nodes: Mapping[str, Mapping[str, Any]], dataset: Dataset | None, weights: str) -> dict[str, Any]:
    """What the run is, for tables and students; without the data their digests are None."""
    normalisation = {key: nodes["dataset"][key] for key in ("mean", "std", "pad", "flip") if key in nodes["dataset"]}
    method = {"target": METHOD}
    return {
        "numerics": NUMERICS_VERSION,
        "data": {"train": None, "test": None, "holdout": 0, **normalisation} if dataset is None else dataset.identity(),
        "student": canonical_network(nodes["student"]),
        "teacher": None,
        "objective": method,
        "recipe": method,
        "seed": 0,
        "precision": PRECISION,
        "weights": weights,
    }


def _run_id(identity: Mapping[str, Any], node: Mapping[str, Any], dataset: Dataset | None) -> str:
    """The digest of weights, network and data set; the same wherever the data lie, and without them."""
    data = canonical_node({key: value for key, value in node.items() if key not in (*PLACES, "limit", "holdout")})
    if resolve(str(node["_target_"])) not in SHAPES:
        assert dataset is not None  # its content identifies it
        data |= {part: dataset.identity()[part] for part in ("train", "test")}
    return digest_of({"weights": identity["weights"], "student": identity["student"], "data": data})


def _compare_with_claim(checkpoint: Checkpoint, found: Evaluation, *, warn: Say) -> None:
    claim = checkpoint.claim
    if claim is None or found.agrees(claim.accuracy, precision=PRECISION):
        return
    best = " (of the best epoch, which need not be this file's)" if claim.is_best else ""
    warn(
        f"warning: {checkpoint.path} states {claim.accuracy:.2f} % under {claim.key}{best}, measured are "
        f"{found.accuracy:.2f} %: another data set, normalisation or network? The measured accuracy counts"
    )
