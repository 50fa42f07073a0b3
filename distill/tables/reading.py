"""A finished run as the values a table needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.runs.identity import canonical
from distill.runs.layout import FIRST_STAGE
from distill.runs.store import RunRecord


@dataclass(frozen=True)
class Teacher:
    """The frozen teacher of a run: what it is called, which weights it has and in which form it was asked."""

    name: str
    weights: str | None
    source: str | None
    run_id: str | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Finished:
    """One finished run. Accuracies are percent on `split` ("test" or "holdout")."""

    run_id: str
    names: Mapping[str, str]
    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    seed: int
    precision: str
    split: str
    holdout: int
    last: float
    best: float | None
    parameters: int | None
    seconds: float | None
    epochs: int | None
    peak_memory: int | None
    teacher: Teacher | None


def read(record: RunRecord) -> Finished | None:
    """A run's values; None where it is not finished, or lacks in its files what every table shows.

    None for a first stage too: its accuracy means nothing, since its classifier is not trained yet.
    """
    if record.status != "finished" or record.result is None or record.names.get("loss", "").endswith(f" {FIRST_STAGE}"):
        return None
    try:
        return _finished(record, record.result)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # edited or half-copied by hand: one such run must not hide the others


def once(runs: Iterable[Finished | None]) -> list[Finished]:
    """The finished ones, each once: a copied run directory does not count as another seed."""
    return list({run.run_id: run for run in runs if run is not None}.values())


def _finished(record: RunRecord, result: Mapping[str, Any]) -> Finished:
    identity: dict[str, Any] = canonical(record.identity)  # type: ignore[assignment]  # a mapping stays one
    best = result.get("best")
    return Finished(
        run_id=record.run_id,
        names=record.names,
        config=record.config,
        identity=identity,
        seed=int(identity["seed"]),
        precision=str(result.get("precision") or identity["precision"]),
        split=str(result["split"]),
        holdout=int(identity["data"].get("holdout") or 0),
        last=_percent(result["last"]["accuracy"]),
        best=_percent(best["accuracy"]) if best else None,
        parameters=result.get("parameters"),
        seconds=result.get("seconds") or None,  # an imported run was trained elsewhere
        epochs=result.get("epochs"),
        peak_memory=result.get("peak_memory_bytes"),
        teacher=_teacher(record.names, result.get("teacher")),
    )


def _percent(value: Any) -> float:
    """An accuracy. Raises ValueError for what is none, nan above all, which would make a mean of nothing."""
    accuracy = float(value)
    if not 0.0 <= accuracy <= 100.0:
        raise ValueError(f"an accuracy lies between 0 and 100, got {value}")
    return accuracy


def _teacher(names: Mapping[str, str], result: Mapping[str, Any] | None) -> Teacher | None:
    if result is None:
        return None
    return Teacher(
        name=names["teacher"],
        weights=result.get("weights_sha256"),
        source=result.get("source"),
        run_id=result.get("run_id"),
        accuracy=result.get("accuracy"),
    )
