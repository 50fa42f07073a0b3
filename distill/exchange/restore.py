"""Restores a run of distill from its weights and the `config.yaml` and `result.json` in the same folder."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from distill.config.faults import Refused
from distill.config.identity import canonical_network, run_folder
from distill.config.rebuild import Untrusted, rebuild_dataset, rebuild_network
from distill.exchange.load import data_at_hand, measure_accuracy, same_data
from distill.runs import files
from distill.runs.config_file import read_config, write_config
from distill.runs.files import StorageError
from distill.runs.identity import canonical
from distill.runs.layout import (
    CONFIG,
    FAILED,
    LAST,
    METRICS,
    PREVIOUS,
    PROVENANCE,
    RESULT,
    STUDENT,
    TIMING,
)
from distill.runs.lock import Busy, RunLock
from distill.runs.records import sealed
from distill.runs.store import RunRecord, changed_identity, damage, read_run, weightless
from distill.training import Evaluation


def has_run(path: Path) -> bool:
    """Whether a run's config and result are in the folder of the file."""
    return all((path.parent / name).is_file() for name in (CONFIG, RESULT))


def read_run_of(path: Path, nodes: Mapping[str, Mapping[str, Any]]) -> RunRecord:
    """The run in the folder of `path`; `nodes` are the groups (student, dataset) that the command names.

    Raises Refused: the files are damaged or edited, or are those of another network or data set.
    """
    record = read_run(path.parent)
    assert record is not None  # its config is there
    if sentence := damage(record):
        raise Refused([f"{sentence}; put the weights into a folder of their own to import them without it"])
    faults = []
    for group, node in nodes.items():
        identity = record.identity.get(group)
        if isinstance(identity, Mapping):
            same = canonical(canonical_network(node)) == canonical(identity)
        else:  # a data set is identified by its content, which need not be here
            same = record.config[group].get("_target_") == node["_target_"]
        if not same:
            faults.append(f"{path.parent / CONFIG} has another {group} than the command: leave {group}= out")
    if sentence := changed_identity(record):
        faults.append(sentence)
    if faults:
        raise Refused(faults)
    return record


def restore(
    path: Path,
    record: RunRecord,
    runs_dir: Path,
    *,
    places: Mapping[str, Any],
    device: torch.device,
    own: str | None,
    say: Callable[[str], None],
) -> None:
    """Write the run under its own id; its accuracy is measured again if its data are at hand.

    Args:
        path: the weights, of any floating type.
        record: the run in their folder.
        runs_dir: where the run is written.
        places: the places of the data that the user gives.
        device: where the accuracy is measured.
        own: the target of a network of the user's, named on the command line.
        say: prints a line.

    Raises:
        Refused: another run is there, the config names a target that is not trusted, or the weights do not have the
            recorded accuracy.
        Busy, StorageError: the run's folder is in use, damaged, or cannot be written to.
    """
    assert record.result is not None
    with files.storage_errors(path, action="read"):
        weights = path.read_bytes()
    digest = sha256(weights).hexdigest()
    target = target_of(record, runs_dir)
    if _is_there(target, digest, path=path, measurable=bool(places)):
        say(f"{target} is there already; use it as teacher.run={record.run_id}")
        return
    result = {**record.result, "weights_sha256": digest}
    with locked(target):
        files.write_bytes(target / STUDENT, weights)
        try:
            found = _measured(replace(record, path=target, result=result), places, device=device, own=own, say=say)
        except Untrusted as error:
            raise Refused([str(error)]) from error
        except StorageError as error:
            raise Refused([f"{path}: {error}"]) from error
        recorded = record.result["last"]["accuracy"]
        if found is not None and not found.agrees(recorded, precision=str(record.identity["precision"])):
            text = (
                f"{path} has {found.accuracy:.2f} % where its run recorded {recorded:.2f} %: these are not its weights"
            )
            raise Refused([f"{text}; put the file into a folder of its own to import it without the run"])
        facts = {
            "file": path.name,
            "weights_sha256": digest,
            "recorded": {"weights_sha256": record.result["weights_sha256"], "accuracy": recorded},
            "measured": None if found is None else found.accuracy,
        }
        last = {} if found is None else {"last": {**record.result["last"], **found.as_dict()}}
        provenance = _copied_history(path.parent, target)
        write_records(
            target,
            config=read_config(path.parent),
            provenance={**provenance, "restored": {**facts, "when": now()}},
            result={**result, **last, "restored": facts},
        )
    if digest != record.result["weights_sha256"] and found is None:
        say(f"its weights are not the bytes that the run recorded: {recorded:.2f} % is recorded, not measured")
    say(f"{target}: finished; use it as teacher.run={record.run_id}, or name it as it was trained")


def _copied_history(source: Path, target: Path) -> Mapping[str, Any]:
    """Copy the run's metrics and timing, where they exist, and return its provenance."""
    for name in (METRICS, TIMING):
        if (source / name).is_file():
            with files.storage_errors(source / name, action="read"):
                data = files.read_record(source / name)
            files.write_bytes(target / name, data)
    try:
        return files.read_json(source / PROVENANCE) or {"sessions": []}
    except StorageError as error:  # a damaged provenance must not cost the run
        return {"note": str(error), "sessions": []}


def _measured(
    record: RunRecord,
    places: Mapping[str, Any],
    *,
    device: torch.device,
    own: str | None,
    say: Callable[[str], None],
) -> Evaluation | None:
    """The accuracy on the run's own evaluation split, None if those data are not at hand."""
    network = rebuild_network(record, own=own)
    dataset = data_at_hand(lambda: rebuild_dataset(record, places), needed=bool(places))
    if dataset is None:
        say("not measured: the run's data are not here (dataset.npz=FILE, dataset.root=DIR)")
        return None
    if not same_data(record, dataset):
        say("not measured: the data are not those of the run")
        return None
    precision = str(record.identity["precision"])
    found = measure_accuracy(network, dataset, device=device, precision=precision)
    say(f"measured on the {dataset.split} images of the run: {found}, {precision}, {device}")
    return found


def target_of(record: RunRecord, runs_dir: Path) -> Path:
    """Where a run lies in a store, by its identity alone. Raises Refused if it is not the identity of a run."""
    try:
        return run_folder(record.identity, runs_dir, run_id=record.run_id)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused([f"{record.path / CONFIG} is damaged: its identity is not that of a run"]) from error


def finished_at(target: Path) -> RunRecord | None:
    """The finished run in a folder of a store, None if the folder is free to write to.

    Raises:
        Busy: another process is at work on it.
        StorageError: it is damaged.
        Refused: it has been trained in part.
    """
    there = read_run(target)
    if there is not None and there.status == "running":
        raise Busy(f"{target} is held by {RunLock(target).holder()}: wait for it, or stop it first")
    if there is not None and (sentence := damage(there)):
        raise StorageError(f"{sentence}; delete its folder and import it again")
    if there is not None and there.result is not None:
        return there
    if any((target / name).exists() for name in (LAST, PREVIOUS, FAILED)):
        raise Refused(
            [f"{target} has been trained in part: finish it, delete it, or choose another place with runs_dir=DIR"]
        )
    return None


def _is_there(target: Path, digest: str, *, path: Path, measurable: bool) -> bool:
    """Whether the run is finished and holds exactly these weights; False for one that can only now be measured.

    Raises as `finished_at` does, and Refused if it has other weights.
    """
    there = finished_at(target)
    if there is None or there.result is None:
        return False
    known = str(there.result["weights_sha256"])
    if known != digest:
        raise Refused(
            [
                f"{target} is finished with other weights (sha256 {known[:12]}..., that of {path} is "
                f"{digest[:12]}...): choose another place with runs_dir=DIR"
            ]
        )
    facts = there.result.get("restored") or {}
    unmeasured = facts and facts["measured"] is None and facts["recorded"]["weights_sha256"] != digest
    return not weightless(target) and not (measurable and unmeasured)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the run's lock, so that neither training nor another import writes there.

    If the block fails, no folder remains that was not there before.

    Raises:
        Busy: another process is at work on the run.
        StorageError: the folder cannot be written to.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    with RunLock(path) as lock:
        if not lock.acquire():
            raise Busy(f"{path} is held by {lock.holder()}: wait for it, or stop it first")
        try:
            files.remove_leftovers(path)
            yield
        except BaseException:
            if path in created:
                shutil.rmtree(path, ignore_errors=True)
            for folder in created[1:]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


def write_records(
    path: Path, *, config: Mapping[str, Any], provenance: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    """Write all files but the weights, `result.json` last: a killed import is not taken for a finished run.

    Raises StorageError.
    """
    files.write_json(path / PROVENANCE, provenance)
    known = {CONFIG: write_config(path, config)}
    if (path / METRICS).is_file():
        with files.storage_errors(path / METRICS, action="read"):
            known[METRICS] = files.read_record(path / METRICS)
    files.write_json(path / RESULT, sealed(result, known))


def now() -> str:
    """The time as run directories write it."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
