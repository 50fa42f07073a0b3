"""`distill ls`: one run a line, with its progress and its last accuracy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from distill.runs.files import StorageError
from distill.runs.lock import RunLock
from distill.runs.records import read_metrics
from distill.runs.store import RunRecord, damage, occupied, size_of
from distill.tables.rendering import Column, Content, TextTable, text_table
from distill.tables.values import TOP5_CLASSES, dataset_name, natural_key, number

SPLITS = ("test", "holdout")


@dataclass(frozen=True)
class Entry:
    """A run of the listing: `epoch` of `epochs` are done, `accuracy` and `top5` are percent on `split` after the last.

    `top5` is None where it is not counted.
    """

    id: str
    status: str
    detail: str
    dataset: str
    student: str
    teacher: str
    loss: str
    recipe: str
    seed: int | None
    precision: str
    epoch: int | None
    epochs: int | None
    accuracy: float | None
    top5: float | None
    split: str | None
    path: str
    bytes: int | None  # on the disk, None where it is not shown


def content(records: Iterable[RunRecord], *, size: bool = False) -> Content:
    """The listing in every format; with `size`, the bytes that each run takes, with the tables of its logits."""
    records = list(records)
    listed = entries(records)
    top5 = any(((record.result or {}).get("classes") or 0) > TOP5_CLASSES for record in records)
    if size:
        listed = [replace(entry, bytes=occupied(Path(entry.path))) for entry in listed]
    return Content(
        table=lambda _: _text(listed, top5=top5),
        records=lambda: _records(listed),
        document=lambda: {"runs": _records(listed)},
        notes=lambda: _text(listed, top5=top5).notes,
    )


def entries(records: Iterable[RunRecord]) -> list[Entry]:
    """The runs by data set, student, teacher, loss and seed."""
    return sorted(map(_entry, records), key=_position)


def _text(listed: Sequence[Entry], *, top5: bool) -> TextTable:
    sizes = [entry.bytes for entry in listed if entry.bytes is not None]
    columns = [
        Column[Entry]("id", lambda entry: entry.id, numeric=False),
        Column[Entry]("status", lambda entry: f"{entry.status} {entry.detail}".rstrip(), numeric=False),
        *(Column[Entry](name, attrgetter(name), numeric=False) for name in ("dataset", "student", "teacher", "loss")),
        Column[Entry]("seed", lambda entry: "?" if entry.seed is None else str(entry.seed)),
        Column[Entry]("precision", lambda entry: entry.precision, numeric=False),
        Column[Entry]("accuracy", _accuracy),
        *([Column[Entry]("top-5", lambda entry: number(entry.top5))] if top5 else []),
        *([Column[Entry]("size", lambda entry: size_of(entry.bytes or 0))] if sizes else []),
    ]
    notes = [f"{size_of(sum(sizes))} together"] if sizes else []
    return text_table("", columns, listed, notes, divisible=False)


def _accuracy(entry: Entry) -> str:
    return f"{number(entry.accuracy)} on holdout" if entry.split == "holdout" else number(entry.accuracy)


def _records(listed: Sequence[Entry]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(entry).items() if (key, value) != ("bytes", None)} for entry in listed]


def _position(entry: Entry) -> tuple[object, ...]:
    words = (entry.dataset, entry.student, entry.teacher, entry.loss, entry.recipe)
    seed = -1 if entry.seed is None else entry.seed
    return (*map(natural_key, words), seed, entry.id, entry.path)


def _entry(record: RunRecord) -> Entry:
    try:
        epoch, split, measured = _progress(record)
    except StorageError as error:
        record, (epoch, split, measured) = replace(record, status="damaged", message=str(error)), (None, None, {})
    epochs = (record.config.get("recipe") or {}).get("epochs")
    names = {key: str(record.names.get(key, "?")) for key in ("student", "teacher", "loss", "recipe")}
    return Entry(
        id=record.run_id,
        status=record.status,
        detail=_detail(record, epoch=epoch, epochs=epochs),
        dataset=dataset_name(str(record.names.get("dataset", "?"))),
        **names,
        seed=record.identity.get("seed"),
        precision=str(record.identity.get("precision", "?")),
        epoch=epoch,
        epochs=epochs,
        accuracy=measured.get("accuracy"),
        top5=measured.get("top5"),
        split=split,
        path=str(record.path),
        bytes=None,
    )


def _progress(record: RunRecord) -> tuple[int | None, str | None, Mapping[str, Any]]:
    """The last epoch whose metrics the run recorded, the split, and what was measured on it. Raises StorageError."""
    if record.status == "damaged":
        return None, None, {}
    if record.result is not None:
        if sentence := damage(record):
            raise StorageError(sentence)
        last = record.result.get("last") or {}
        return last.get("epoch"), record.result.get("split"), last
    lines = read_metrics(record.path, record.result)
    last = lines[-1] if lines else {}
    split = next((split for split in SPLITS if last.get(split)), None)
    return last.get("epoch", 0), split, last[split] if split else {}


def _detail(record: RunRecord, *, epoch: int | None, epochs: int | None) -> str:
    if record.status == "failed":
        return _failure(record.failure or {})
    if record.status == "running":
        return f"by {RunLock(record.path).holder()}, {_reached(epoch, epochs)}"
    return {"unfinished": _reached(epoch, epochs), "damaged": record.message}.get(record.status, "")


def _reached(epoch: int | None, epochs: int | None) -> str:
    return f"at epoch {epoch or 0} of {epochs or '?'}"


def _failure(failure: Mapping[str, Any]) -> str:
    place = f"at epoch {failure.get('epoch', '?')}, step {failure.get('step', '?')}"
    return f"{place}, in {failure['term']}" if failure.get("term") else f"{place}: {failure.get('message', '?')}"
