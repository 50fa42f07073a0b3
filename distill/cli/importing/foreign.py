"""A run made of somebody else's weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

from distill.cli.grammar import UsageError
from distill.cli.importing.folder import locked, write_records
from distill.cli.importing.imported import PRECISION, Imported
from distill.cli.importing.measured import counted, measure
from distill.cli.importing.records import config_of, provenance_of, result_of
from distill.config.identity import short_names
from distill.runs import files
from distill.runs.checkpoint import load_weights
from distill.runs.files import StorageError
from distill.runs.layout import STUDENT, run_path
from distill.runs.store import RunRecord, damage, read_run, weightless
from distill.training import Evaluation

Say = Callable[[str], None]


def bring_in(made: Imported, runs_dir: Path, *, say: Say, warn: Say) -> None:
    """Write the run, unless it is there already; where only a claim was there, it is measured now.

    Raises:
        UsageError: there is neither a claimed accuracy nor data to measure one.
        Busy, StorageError: the folder is another process's, or damaged, or cannot be written to.
    """
    student, method = short_names(made.identity)
    path = run_path(runs_dir, student=student, objective=method, seed=0, run_id=made.run_id)
    there = read_run(path)
    if there is not None and there.status in ("finished", "damaged") and not weightless(path):
        _check_intact(there)
        if made.dataset is None or not _only_claims(there):
            say(f"{path} is there already: {_recorded(there)}; use it as teacher.run={made.run_id}")
            _compare(made, _known(there), warn=warn)
            return
    claim = made.checkpoint.claim
    if made.dataset is None and claim is None:
        raise UsageError(
            [
                f"{made.checkpoint.path} states no accuracy, and the data to measure it are not here: add "
                "dataset.npz=FILE or dataset.root=DIR"
            ]
        )
    with locked(path):
        files.write_bytes(path / STUDENT, made.weights)
        found = None
        if made.dataset is not None:
            found = measure(made.network, made.dataset, device=made.device, precision=PRECISION)
        config, provenance, result = (of(made, found) for of in (config_of, provenance_of, result_of))
        write_records(path, config=config, provenance=provenance, result=result)
    for sentence in _about(made, found):
        say(sentence)
    _compare(made, found, warn=warn)
    say(f"{path}: finished; use it as teacher.run={made.run_id}")


def _compare(made: Imported, found: Evaluation | None, *, warn: Say) -> None:
    """A warning where the file states another accuracy than was measured."""
    claim = made.checkpoint.claim
    if claim is None or found is None or found.agrees(claim.accuracy):
        return
    best = " (of the best epoch, which need not be this file's)" if claim.key.startswith("best") else ""
    warn(
        f"warning: {made.checkpoint.path} states {claim.accuracy:.2f} % under {claim.key}{best}, measured are "
        f"{found.accuracy:.2f} %: another data set, normalisation or network? The measured accuracy counts"
    )


def _about(made: Imported, found: Evaluation | None) -> list[str]:
    checkpoint = made.checkpoint
    epoch = "" if checkpoint.epoch is None else f", epoch {checkpoint.epoch}"
    beside = f", without its {' and '.join(checkpoint.ignored)}" if checkpoint.ignored else ""
    told = [f"{checkpoint.path}: {checkpoint.layout}, {checkpoint.container}{epoch}{beside}"]
    data = made.parts.names["dataset"]
    if found is not None:
        return [*told, f"measured on the test set of {data}: {counted(found)}, {PRECISION}, {made.device}"]
    assert checkpoint.claim is not None
    return [
        *told,
        f"not measured, since the data of {data} are not here (dataset.npz=FILE, dataset.root=DIR): recorded is the "
        f"claimed accuracy, {checkpoint.claim.accuracy:.2f} % ({checkpoint.claim.key})",
    ]


def _only_claims(record: RunRecord) -> bool:
    assert record.result is not None
    imported = record.result.get("imported")
    return isinstance(imported, Mapping) and imported.get("accuracy") == "claimed"


def _recorded(record: RunRecord) -> str:
    assert record.result is not None
    how = "claimed" if _only_claims(record) else "measured"
    return f"{record.result['split']} {record.result['last']['accuracy']:.2f} % ({how})"


def _known(record: RunRecord) -> Evaluation | None:
    """What was measured before, None where nothing was."""
    assert record.result is not None
    last = record.result["last"]
    if _only_claims(record) or not {"correct", "count", "loss"} <= set(last):
        return None
    return Evaluation(last["correct"], last["count"], last["accuracy"], last["loss"])


def _check_intact(record: RunRecord) -> None:
    if sentence := damage(record):
        raise StorageError(f"{sentence}; delete its folder and import the file again")
    assert record.result is not None
    load_weights(record.path / STUDENT, expected_sha256=record.result["weights_sha256"])
