"""The work of `distill evaluate`: rebuild a finished run's network and data, measure its accuracy, lay it out."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from distill.config.build import usable_device
from distill.config.faults import Refused
from distill.config.rebuild import Untrusted, rebuild_network
from distill.exchange.load import measure_accuracy, run_dataset, same_data
from distill.runs.store import RunRecord
from distill.tables.rendering import Content, TextTable
from distill.training import resolve_precision


@dataclass(frozen=True)
class Measured:
    """A new measurement and the recorded one of the same run.

    `accuracy` and `top5` are percent, `top5` None where it is not counted; `loss` is the mean cross-entropy in
    nats, None where it is not finite; `recorded` is the last epoch of result.json. `agrees` is None where the two
    cannot be compared; `not_compared` is then the reason.
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
    top5: float | None
    loss: float | None
    recorded: Mapping[str, Any]
    agrees: bool | None
    not_compared: str | None


def measure(
    record: RunRecord, *, device: str, precision: str | None, places: Mapping[str, Any], own: str | None
) -> Measured:
    """Measure a finished run's network on its own evaluation split.

    Args:
        record: a finished run with everything that `evaluate` needs of it.
        device: as on the command line; `auto` is CUDA where there is one.
        precision: None for the run's own.
        places: where the data lie now: keys of the data set's node.
        own: the target of a network from outside the package, named by the user.

    Raises:
        Refused: the device or the data are not there, or the run names a target that is not trusted.
        StorageError: the weights or the run's files are damaged.
    """
    assert record.result is not None
    own_precision = str(record.identity["precision"])
    try:
        where = usable_device(device, key="engine.device")
        numbers = resolve_precision(precision or own_precision, where)
        network = rebuild_network(record, own=own)
        dataset = run_dataset(record, places, strict=False)
        found = measure_accuracy(network, dataset, device=where, precision=numbers)
    except Untrusted as error:
        raise Refused([str(error)]) from error
    except ValueError as error:
        raise Refused(str(error).splitlines()) from error
    not_compared = None if numbers == own_precision else f"the run's precision is {own_precision}"
    if not same_data(record, dataset):
        not_compared = "the data are not those of the run"
    recorded = record.result["last"]
    return Measured(
        run_id=record.run_id,
        path=str(record.path),
        names=dict(record.names),
        split=dataset.split,
        precision=numbers,
        device=str(where),
        accuracy=found.accuracy,
        correct=found.correct,
        count=found.count,
        top5=found.top5,
        loss=found.loss if math.isfinite(found.loss) else None,
        recorded=dict(recorded),
        agrees=None if not_compared else found.agrees(recorded["accuracy"], precision=numbers),
        not_compared=not_compared,
    )


def formats(measured: Measured) -> Content:
    """The measurement in every shape."""
    return Content(
        table=lambda everything: _sheet(measured),
        records=lambda: [_flat(measured)],
        document=lambda: asdict(measured),
        notes=lambda: _notes(measured),
    )


def _sheet(measured: Measured) -> TextTable:
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
        **({} if measured.top5 is None else {"top-5": f"{measured.top5:.2f}"}),
        "cross-entropy": "-" if measured.loss is None else f"{measured.loss:.4f}",
    }
    return TextTable(
        title="",
        headers=tuple(cells),
        numeric=tuple(header in ("accuracy", "recorded", "correct", "top-5", "cross-entropy") for header in cells),
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
