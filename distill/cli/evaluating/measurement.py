"""What `distill evaluate` found, in the shapes that the writers lay out. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from distill.tables.output import Views
from distill.tables.sheet import Sheet


@dataclass(frozen=True)
class Measured:
    """A measurement beside the record of the same run.

    `accuracy` is percent, `loss` the mean cross-entropy in nats (None where it is not finite), `recorded` the
    last epoch of result.json. `agrees` is None where the record is no yardstick, and `not_compared` says why.
    """

    run_id: str
    path: str
    names: Mapping[str, Any]
    split: str
    precision: str
    device: str
    accuracy: float
    correct: int
    count: int
    loss: float | None
    recorded: Mapping[str, Any]
    agrees: bool | None
    not_compared: str | None


def views(measured: Measured) -> Views:
    """The measurement in every shape."""
    return Views(
        sheet=lambda everything: _sheet(measured),
        records=lambda: [_flat(measured)],
        document=lambda: asdict(measured),
        notes=lambda: _notes(measured),
    )


def _sheet(measured: Measured) -> Sheet:
    cells = {
        "id": measured.run_id,
        "student": str(measured.names.get("student", "?")),
        "loss": str(measured.names.get("loss", "?")),
        "measured on": measured.split,
        "precision": measured.precision,
        "device": measured.device,
        "accuracy": f"{measured.accuracy:.2f}",
        "recorded": f"{measured.recorded['accuracy']:.2f}",
        "correct": f"{measured.correct}/{measured.count}",
        "cross-entropy": "-" if measured.loss is None else f"{measured.loss:.4f}",
    }
    return Sheet(
        title="",
        headers=tuple(cells),
        numeric=tuple(header in ("accuracy", "recorded", "correct", "cross-entropy") for header in cells),
        rows=(tuple(cells.values()),),
        notes=tuple(_notes(measured)),
        divisible=False,
    )


def _notes(measured: Measured) -> list[str]:
    return [f"not compared with the record: {measured.not_compared}"] if measured.not_compared else []


def _flat(measured: Measured) -> dict[str, Any]:
    flat = asdict(measured)
    names, recorded = flat.pop("names"), flat.pop("recorded")
    return names | flat | {f"recorded_{key}": value for key, value in recorded.items()}
