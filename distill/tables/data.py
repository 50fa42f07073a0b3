"""Tables as records for CSV and JSON: a column per differing setting, one record per run, sorting, choosing columns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill.tables.presets import Values, comparable, varying
from distill.tables.rendering import Content, TextTable
from distill.tables.rows import Row
from distill.tables.values import HIDDEN_KEYS, fields, flatten, is_number, natural_key, rank, to_text

SECTIONS = ("dataset", "student", "teacher", "loss", "recipe")
# stated by names, digests and columns of their own
LEFT_OUT = ("teacher.network", "teacher.loss", "teacher.run", "teacher.source")


class UnknownColumn(ValueError):
    """No column has that name; `known` are those there are."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no column is called {name!r}")
        self.name, self.known = name, known


def settings(rows: Sequence[Row]) -> list[Values]:
    """For each row its value of every key of the configuration that differs among the rows, as `loss.temperature`."""
    values = [_values(row.first.config) for row in rows]
    # a loss without a teacher has none of the teacher's settings, which says nothing about the others
    taught = [comparable(each) for each in values if any(key.startswith("teacher.") for key in each)]
    of_teachers = varying(taught)
    keys = [
        key
        for key in varying([comparable(each) for each in values])
        if not key.startswith("teacher.") or key in of_teachers
    ]
    return [{key: each.get(key) for key in sorted(keys, key=natural_key)} for each in values]


def _values(config: Mapping[str, Any]) -> Values:
    found = {key: value for name in SECTIONS for key, value in flatten(config.get(name), prefix=name).items()}
    return {
        key: value
        for key, value in found.items()
        if key not in SECTIONS
        and not key.startswith(LEFT_OUT)
        and key.split(".")[-1] not in ("_target_", "_partial_")
        and key.removeprefix("dataset.") not in HIDDEN_KEYS
    }


def run_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One flat record for each run of the rows."""
    return [
        {
            "run": run.run_id,
            **fields(row, "method", "loss", "dataset", "student"),
            "teacher": row.teacher.name if row.teacher else "none",
            "teacher_weights_sha256": row.teacher.weights if row.teacher else None,
            **fields(row, "recipe", "precision"),
            **fields(run, "seed", "split", "holdout", "last", "top5", "best", "epochs", "parameters", "seconds"),
            "peak_memory_bytes": run.peak_memory,
            "side_by_side": run.side_by_side,
            **values,
        }
        for row, values in zip(rows, settings(rows), strict=True)
        for run in row.runs
    ]


def of_records(records: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Content:
    """Flat records with equal keys in every format, a column for each key."""
    headers = tuple(records[0]) if records else ()
    numbers = tuple(all(is_number(record[key]) or record[key] is None for record in records) for key in headers)
    text = TextTable(
        title="",
        headers=headers,
        numeric=numbers,
        rows=tuple(tuple(_text(record[key]) for key in headers) for record in records),
        notes=tuple(notes),
        naming=1,
    )
    return Content(
        table=lambda _: text,
        records=lambda: records,
        document=lambda: {"rows": list(records), "notes": list(notes)},
        notes=lambda: notes,
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value)) or "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.6g}"
    return "-" if value is None else to_text(value)


def arranged(content: Content, *, sort: str | None, columns: Sequence[str]) -> Content:
    """The content with its rows sorted by a column of its records, and with some columns alone.

    Args:
        content: text, records and the one list of its document have a row for each item, in one order.
        sort: a column; `-last.mean` sorts from the largest on. Rows without a value stand last.
        columns: those to be shown, in this order; all where there are none.

    Raises:
        UnknownColumn: there is no such column.
    """
    records = list(content.records())
    known = list(records[0]) if records else []
    for name in filter(None, [(sort or "").removeprefix("-"), *columns]):
        if records and name not in known:
            raise UnknownColumn(name, known)
    order = list(range(len(records)))
    if sort:
        key = sort.removeprefix("-")
        order.sort(key=lambda place: rank(records[place].get(key), _text), reverse=sort.startswith("-"))
        order.sort(key=lambda place: records[place].get(key) is None)
    if columns:
        return of_records([{name: records[place][name] for name in columns} for place in order], content.notes())

    def sorted_rows(found: TextTable) -> TextTable:
        return replace(found, rows=tuple(found.rows[place] for place in order))

    of_form = content.pages  # where `table` alone is not enough

    def document() -> Mapping[str, Any]:
        whole = content.document()
        listed = {name: [whole[name][place] for place in order] for name in ("rows", "runs") if name in whole}
        return {**whole, **listed}

    return replace(
        content,
        table=lambda everything: sorted_rows(content.table(everything)),
        records=lambda: [records[place] for place in order],
        document=document,
        pages=None if of_form is None else lambda form: list(map(sorted_rows, of_form(form))),
    )
