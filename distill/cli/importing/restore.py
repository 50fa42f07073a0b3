"""A run of distill brought back from its weights with `config.yaml` and `result.json` beside them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from distill.cli.grammar import UsageError
from distill.cli.importing.folder import locked, now, write_records
from distill.cli.importing.measured import counted, measure
from distill.cli.importing.parts import at_hand, located
from distill.config.identity import short_names
from distill.config.plan import data_identity
from distill.config.rebuild import Untrusted, rebuild_dataset, rebuild_network
from distill.runs import files
from distill.runs.config_file import read_config
from distill.runs.files import StorageError
from distill.runs.identity import canonical
from distill.runs.layout import CONFIG, FAILED, LAST, METRICS, PREVIOUS, PROVENANCE, STUDENT, TIMING, run_path
from distill.runs.lock import Busy
from distill.runs.store import RunRecord, read_run, weightless
from distill.training import Evaluation

Say = Callable[[str], None]


def restore(
    path: Path,
    record: RunRecord,
    runs_dir: Path,
    *,
    places: Mapping[str, Any],
    device: torch.device,
    own: str | None,
    say: Say,
) -> None:
    """Write the run under its own id; its accuracy is measured again where its data are at hand.

    Args:
        path: the weights, of any floating type.
        record: what lies beside them.
        runs_dir: where the run is to lie.
        places: where the command says that the data lie.
        device: where to measure.
        own: the target of a network of the user's, named on the command line.
        say: prints a line.

    Raises:
        UsageError: another run is there, the config is not trusted, or the weights have not its accuracy.
        Busy, StorageError: the folder is another process's, or damaged, or cannot be written to.
    """
    weights = _read(path)
    digest = sha256(weights).hexdigest()
    target = target_of(record, runs_dir)
    if _is_there(target, digest, path=path, asked=bool(places)):
        say(f"{target} is there already; use it as teacher.run={record.run_id}")
        return
    assert record.result is not None
    result = {**record.result, "weights_sha256": digest}
    stored = replace(record, path=target, result=result)
    with locked(target):
        files.write_bytes(target / STUDENT, weights)
        try:
            found = _measured(stored, places=places, device=device, own=own, say=say)
        except Untrusted as error:
            raise UsageError([str(error)]) from error
        except StorageError as error:
            raise UsageError([f"{path}: {error}"]) from error
        recorded = record.result["last"]["accuracy"]
        _check_agreement(path, found, recorded)
        for name in (METRICS, TIMING):
            if (path.parent / name).is_file():
                files.write_bytes(target / name, (path.parent / name).read_bytes())
        facts = _facts(path, record, digest, found)
        write_records(
            target,
            config=read_config(path.parent),
            provenance={**_provenance(path.parent), "restored": {**facts, "when": now()}},
            result={**result, **_accuracy(record, found), "restored": facts},
        )
    if digest != record.result["weights_sha256"] and found is None:
        say(f"its weights are not the bytes that the run recorded: {recorded:.2f} % is the record's, not measured")
    say(f"{target}: finished; use it as teacher.run={record.run_id}, or name it as it was trained")


def _check_agreement(path: Path, found: Evaluation | None, recorded: float) -> None:
    """UsageError where the weights were measured and have not the accuracy on record."""
    if found is not None and not found.agrees(recorded):
        raise UsageError(
            [
                f"{path} has {found.accuracy:.2f} % where its run recorded {recorded:.2f} %: these are not the "
                "weights of that run; put them into a folder of their own to import them without it"
            ]
        )


def _measured(
    record: RunRecord, *, places: Mapping[str, Any], device: torch.device, own: str | None, say: Say
) -> Evaluation | None:
    """The accuracy on the run's own evaluation split, None where those data are not at hand."""
    network = rebuild_network(record, own=own)
    node = record.config["dataset"]
    wrong = [place for place in places if place not in node]
    if wrong:
        raise UsageError([f"dataset.{place} is not a key of the run's data set: leave it out" for place in wrong])
    changes = {key: value for key, value in located(node, places).items() if node.get(key) != value}
    dataset = at_hand(lambda: rebuild_dataset(record, changes), asked=bool(places))
    if dataset is None:
        say("not measured: the run's data are not here (dataset.npz=FILE, dataset.root=DIR)")
        return None
    if canonical(data_identity(dataset)) != canonical(record.identity.get("data")):
        say("not measured: the data are not those of the run")
        return None
    precision = str(record.identity["precision"])
    found = measure(network, dataset, device=device, precision=precision)
    say(f"measured on the {dataset.split} images of the run: {counted(found)}, {precision}, {device}")
    return found


def _read(path: Path) -> bytes:
    with files.storage_errors(path, action="read"):
        return path.read_bytes()


def target_of(record: RunRecord, runs_dir: Path) -> Path:
    """Where a run lies in a store, by its identity alone. Raises UsageError where that is none."""
    try:
        student, method = short_names(record.identity)
        seed = int(record.identity["seed"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError([f"{record.path / CONFIG} is damaged: its identity is not that of a run"]) from error
    return run_path(runs_dir, student=student, objective=method, seed=seed, run_id=record.run_id)


def _is_there(target: Path, digest: str, *, path: Path, asked: bool) -> bool:
    """Whether the run is finished with these very weights, and holds them. Raises where something else is there.

    A run whose other bytes could not be measured is not done with, once somebody `asked` for data that can do it.
    """
    there = read_run(target)
    if there is not None and there.status == "running":
        raise Busy(f"{target} is being trained: wait for it, or stop it first")
    if there is not None and there.status == "damaged":
        raise StorageError(f"{there.message}; delete its folder and import the file again")
    if there is None or there.result is None:
        if any((target / name).exists() for name in (LAST, PREVIOUS, FAILED)):
            raise UsageError(
                [f"{target} has been trained in part: finish it, delete it, or choose another place with runs_dir=DIR"]
            )
        return False
    known = str(there.result.get("weights_sha256"))
    if known != digest:
        raise UsageError(
            [
                f"{target} is finished with other weights (sha256 {known[:12]}..., that of {path} is "
                f"{digest[:12]}...): choose another place with runs_dir=DIR"
            ]
        )
    if weightless(target):
        return False
    facts = there.result.get("restored") or {}
    changed = facts and facts["measured"] is None and facts["recorded"]["weights_sha256"] != digest
    return not (asked and changed)


def _accuracy(record: RunRecord, found: Evaluation | None) -> dict[str, Any]:
    assert record.result is not None
    return {} if found is None else {"last": {**record.result["last"], **found.as_dict()}}


def _facts(path: Path, record: RunRecord, digest: str, found: Evaluation | None) -> dict[str, Any]:
    """Where the weights came from, and what the run had recorded of its own."""
    assert record.result is not None
    return {
        "file": path.name,
        "weights_sha256": digest,
        "recorded": {
            "weights_sha256": record.result["weights_sha256"],
            "accuracy": record.result["last"]["accuracy"],
        },
        "measured": None if found is None else found.accuracy,
    }


def _provenance(folder: Path) -> dict[str, Any]:
    """The run's own record; one that is lost or damaged must not cost the run."""
    try:
        return files.read_json(folder / PROVENANCE) or {"sessions": []}
    except StorageError as error:
        return {"note": str(error), "sessions": []}
