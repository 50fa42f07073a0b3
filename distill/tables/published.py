"""Published tables as data, read from `configs/table/NAME.yaml` (plain data, no Hydra group).

A file holds:

    title, source, dataset
    recipe       the recipe preset of all teachers (students get it from the experiments)
    baseline     {row: KEY} or {column: KEY}
    overrides    added to every cell after its experiment
    untrainable  why this table cannot be trained yet
    columns      KEY: experiment, teacher, student, teacher_accuracy, student_accuracy, learning_rate, label, preset,
                 overrides, untrainable, note, teacher_recipe
    rows         KEY: label, preset, published (one value a column), top5, epochs, runs, temperature, weights, source,
                 overrides, untrainable, note, and `cells`: {COLUMN: what differs there from the row}

A row with `preset: ce` and no `published` shows each column's `student_accuracy`. A `note` is a sentence or a list.
A null value equals a missing key. Labels are unique among the rows, and among the columns.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from distill.config import preset_files
from distill.tables.values import natural_key

EpochRule = Literal["last", "best on test", "unknown"]
Key = tuple[str, str]  # of a cell: row, column
Node = Mapping[str, Any]

_RULES = ("last", "best on test", "unknown")
_TABLE = {"title", "source", "dataset", "recipe", "baseline", "overrides", "untrainable", "columns", "rows"}
_COLUMN = {"experiment", "teacher", "student", "teacher_accuracy", "student_accuracy", "learning_rate", "label"}
_COLUMN |= {"preset", "overrides", "untrainable", "note", "teacher_recipe"}
_CELL = {"preset", "epochs", "runs", "deviation", "temperature", "weights", "overrides", "untrainable", "note"}
_ROW = _CELL | {"label", "published", "top5", "source", "cells"}
_TEXTS = {"title", "source", "dataset", "recipe", "teacher_recipe", "label", "experiment", "teacher", "student"}
_TEXTS |= {"preset", "epochs", "untrainable"}
_PERCENT, _POSITIVE = (0.0, 100.0), (0.0, math.inf)  # inclusive
_RANGES = {
    **dict.fromkeys(("teacher_accuracy", "student_accuracy", "deviation"), _PERCENT),
    **dict.fromkeys(("learning_rate", "temperature"), _POSITIVE),
}


@dataclass(frozen=True)
class TableRow:
    """A method as the table lists it; `preset` is our loss, None where the cell's column names it or we have none."""

    key: str
    label: str
    preset: str | None
    source: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TableColumn:
    """A pair of networks, or something else that the table varies.

    `teacher` and `student` are our presets, None where we have no such network; accuracies are published ones, in
    percent. `teacher_overrides` of `distill train` train the same teacher as the column's cells (with `seed` in place
    of `teacher.seed`). `learning_rate` is the published one of its student: the experiment
    sets it, and a test compares both.
    """

    key: str
    label: str
    experiment: str | None
    teacher: str | None
    student: str | None
    teacher_accuracy: float | None
    student_accuracy: float | None
    learning_rate: float | None
    teacher_overrides: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One published number and how to train ours.

    value        accuracy in percent, None where nothing is published; `top5` where the table gives it too
    epochs       the epoch that the number is of
    runs         the number of runs it is the mean of, None where that is not published
    deviation    over those runs, None where it is not published (it never is in this field's tables)
    temperature, weights  that the published number was made with, as far as they are known
    overrides    of `distill train`, without `seed`; empty where we cannot train it, for the reason in `untrainable`
    """

    row: str
    column: str
    value: float | None
    top5: float | None
    epochs: EpochRule
    runs: int | None
    deviation: float | None
    temperature: float | None
    weights: Mapping[str, float]
    overrides: tuple[str, ...]
    untrainable: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PublishedTable:
    """A table; its cells are keyed by (row, column), in the order of rows within each column.

    A cell is compared with the one in row `baseline_row` of its column, or in column `baseline_column` of its row.
    """

    name: str
    title: str
    source: str
    dataset: str
    rows: tuple[TableRow, ...]
    columns: tuple[TableColumn, ...]
    cells: Mapping[Key, Cell]
    baseline_row: str | None
    baseline_column: str | None
    notes: tuple[str, ...]

    def row(self, key: str) -> TableRow:
        """The row of that key. Raises KeyError."""
        return {row.key: row for row in self.rows}[key]

    def column(self, key: str) -> TableColumn:
        """The column of that key. Raises KeyError."""
        return {column.key: column for column in self.columns}[key]

    def baseline_of(self, cell: Cell) -> Cell | None:
        """The cell that `cell` is compared with, None where it is the baseline or the table has none."""
        key = (self.baseline_row or cell.row, self.baseline_column or cell.column)
        return None if key == (cell.row, cell.column) else self.cells.get(key)

    def only(self, *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> "PublishedTable":
        """The table with these rows and columns (none given: all), in its own order. Raises KeyError."""
        for wanted, existing in ((rows, self.rows), (columns, self.columns)):
            if missing := set(wanted) - {each.key for each in existing}:
                raise KeyError(min(missing))
        kept = tuple(row for row in self.rows if not rows or row.key in rows)
        across = tuple(column for column in self.columns if not columns or column.key in columns)
        cells = {(row.key, column.key): self.cells[row.key, column.key] for column in across for row in kept}
        return replace(self, rows=kept, columns=across, cells=cells)


class UnknownTable(ValueError):
    """No table has that name; the sentence lists the names."""


class DamagedTable(ValueError):
    """A table's file does not have the required content; the sentence names the file and the key."""


def table_names(*, config_dir: Path | None = None) -> list[str]:
    """The names of the shipped tables and of those in `config_dir/table`, in natural order."""
    return sorted(preset_files("table", config_dir), key=natural_key)


def load(name: str, *, config_dir: Path | None = None) -> PublishedTable:
    """The shipped table of that name, or else the one in `config_dir/table`. Raises UnknownTable, DamagedTable."""
    path = preset_files("table", config_dir).get(name)
    if path is None:
        raise UnknownTable(f"table={name} does not exist: there are {', '.join(table_names(config_dir=config_dir))}")
    try:
        content = _without_nulls(parse_yaml(path.read_bytes()))
        return _table(name, _checked(content, _TABLE | {"note"}, "the table"))
    except (yaml.YAMLError, OSError) as error:
        raise DamagedTable(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except KeyError as error:
        raise DamagedTable(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedTable(f"{path}: {error}") from error


_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]  # of PyYAML, which has no types
    pass


# Hydra reads 5e-4 as a number; YAML 1.1 reads only 5.0e-4 as one.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML document, with numbers as Hydra reads them. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def _table(name: str, content: Node) -> PublishedTable:
    columns = {key: _checked(node, _COLUMN, f"column {key}") for key, node in _named(content["columns"], "column")}
    rows = {key: _checked(node, _ROW, f"row {key}") for key, node in _named(content["rows"], "row")}
    baseline = _checked(content.get("baseline", {}), {"row", "column"}, "baseline")
    for what, there in (("row", rows), ("column", columns)):
        if baseline.get(what) not in (None, *there):
            raise ValueError(f"baseline names the {what} {baseline[what]!r}, which the table does not have")
    table_rows = tuple(_row(key, node, content["source"]) for key, node in rows.items())
    table_columns = tuple(_column(key, node, content) for key, node in columns.items())
    _check_labels(table_rows, "rows")
    _check_labels(table_columns, "columns")
    cells = {(row, column): _cell(content, row, column) for column in columns for row in rows}
    return PublishedTable(
        name=name,
        title=content["title"],
        source=content["source"],
        dataset=content["dataset"],
        rows=table_rows,
        columns=table_columns,
        cells=cells,
        baseline_row=baseline.get("row"),
        baseline_column=baseline.get("column"),
        notes=_sentences(content.get("note")),
    )


def _row(key: str, node: Node, source: str) -> TableRow:
    label, source = node.get("label", key), node.get("source", source)
    return TableRow(key, label, node.get("preset"), source, _sentences(node.get("note")))


def _column(key: str, node: Node, content: Node) -> TableColumn:
    teacher, student = node.get("teacher"), node.get("student")
    recipe = node.get("teacher_recipe", content.get("recipe"))
    trained = (f"dataset={content['dataset']}", f"student={teacher}", f"recipe={recipe}", "loss=ce")
    return TableColumn(
        key=key,
        label=node.get("label", f"{teacher} -> {student}"),
        experiment=node.get("experiment"),
        teacher=teacher,
        student=student,
        teacher_accuracy=node.get("teacher_accuracy"),
        student_accuracy=node.get("student_accuracy"),
        learning_rate=node.get("learning_rate"),
        teacher_overrides=trained if teacher and recipe and not _untrainable(content, node) else (),
        notes=_sentences(node.get("note")),
    )


def _cell(content: Node, row: str, column: str) -> Cell:
    of_column, of_row = content["columns"][column], content["rows"][row]
    cells = of_row.get("cells", {})
    own = _checked(cells.get(column, {}), _CELL, f"cell {row}, {column}")
    if wrong := set(cells) - set(content["columns"]):
        raise ValueError(f"row {row} has a cell in {min(wrong)}, which is no column")
    merged = {**of_row, **own}
    rule = merged.get("epochs", "unknown")
    if rule not in _RULES:
        raise ValueError(f"epochs of row {row} is {rule!r}: write {', '.join(_RULES)}")
    preset = own.get("preset", of_row.get("preset", of_column.get("preset")))
    if "deviation" in merged and merged.get("runs", 0) < 2:
        raise ValueError(f"deviation of row {row} is over runs, got runs={merged.get('runs')}: give at least 2")
    reason = _untrainable(content, of_column, merged) or (None if preset else "we have no such method")
    is_plain_student = of_row.get("preset") == "ce" and "published" not in of_row
    experiment = [f"experiment={of_column['experiment']}"] if of_column.get("experiment") else []
    overrides = [*experiment, *_overrides(of_column, content), f"loss={preset}", *_overrides(of_row, own)]
    return Cell(
        row=row,
        column=column,
        value=of_column.get("student_accuracy") if is_plain_student else _value(content, row, column, "published"),
        top5=_value(content, row, column, "top5"),
        epochs=rule,
        runs=merged.get("runs"),
        deviation=merged.get("deviation"),
        temperature=merged.get("temperature"),
        weights={**of_row.get("weights", {}), **own.get("weights", {})},
        overrides=() if reason else tuple(overrides),
        untrainable=reason,
        notes=_sentences(own.get("note")),
    )


def _overrides(*nodes: Node) -> list[str]:
    return [override for node in nodes for override in node.get("overrides", ())]


def _untrainable(*nodes: Node) -> str | None:
    return next((node["untrainable"] for node in nodes if node.get("untrainable")), None)


def _value(content: Node, row: str, column: str, key: str) -> float | None:
    """The column's value in a row's list of one value a column."""
    values, columns = content["rows"][row].get(key), list(content["columns"])
    if values is None:
        return None
    if len(values) != len(columns):
        raise ValueError(f"{key} of row {row} has {len(values)} values for {len(columns)} columns")
    value = values[columns.index(column)]
    return None if value is None else float(value)


def _sentences(note: str | list[str] | None) -> tuple[str, ...]:
    return (note,) if isinstance(note, str) else tuple(note or ())


def _named(nodes: Any, what: str) -> list[tuple[str, Any]]:
    """The rows, or columns, with their names. Raises ValueError where there are none or a name is not text."""
    if not isinstance(nodes, Mapping) or not nodes:
        raise ValueError(f"{what}s must be a mapping with at least one {what}, got {nodes!r}")
    for key in nodes:
        if not isinstance(key, str):
            raise ValueError(f"{what} {key!r} is not a name: put it in quotes")
    return list(nodes.items())


def _check_labels(found: Sequence[TableRow | TableColumn], what: str) -> None:
    """Raises ValueError where two rows, or two columns, have one label."""
    keys: dict[str, str] = {}
    for each in found:
        if each.label in keys:
            raise ValueError(
                f"the {what} {keys[each.label]!r} and {each.key!r} have the same label {each.label!r}: "
                "give each a `label` of its own"
            )
        keys[each.label] = each.key


def _without_nulls(node: Any, inside: str = "") -> Any:
    """The node without keys whose value is null, at every depth.

    A null row or column stays, and is refused. So does a null in a cell: there the row's value does not hold.
    """
    if not isinstance(node, Mapping):
        return node
    kept = inside in ("rows", "columns", "a cell")
    return {
        key: _without_nulls(value, "a cell" if inside == "cells" else key)
        for key, value in node.items()
        if kept or value is not None
    }


def _checked(node: Any, keys: set[str], where: str) -> Node:
    """The node, whose keys and values are allowed. Raises ValueError."""
    if not isinstance(node, Mapping):
        raise ValueError(f"{where} must be a mapping, got {node!r}")
    if wrong := set(node) - keys:
        raise ValueError(f"{where} has no key {min(map(str, wrong))!r}: there are {', '.join(sorted(keys))}")
    for key, value in node.items():
        if value is not None and (fault := _fault(key, value)):
            raise ValueError(f"{key} of {where}{fault}")
    return node


def _fault(key: str, value: Any) -> str | None:
    """What is wrong with the value of a key, as the end of a sentence."""
    if key in _TEXTS and not isinstance(value, str):
        return f" must be text, got {value!r}: put it in quotes"
    if key in _RANGES:
        return _outside(value, *_RANGES[key])
    if key == "runs" and (type(value) is not int or value < 1):
        return f" must be a whole number from 1 on, got {value!r}: leave it out if it is not published"
    if key in ("published", "top5"):
        if not isinstance(value, list):
            return f" must be a list with a value (or null) for each column, got {value!r}"
        return next(filter(None, (_outside(each, *_PERCENT) for each in value if each is not None)), None)
    if key == "weights":
        if not isinstance(value, Mapping):
            return f" must be a mapping of names to numbers, got {value!r}"
        faults = ((name, _outside(each, *_POSITIVE)) for name, each in value.items())
        return next((f", {name},{fault}" for name, fault in faults if fault), None)
    texts = value if isinstance(value, list) else [value]
    are_texts = all(isinstance(each, str) for each in texts)
    if key == "overrides" and not (isinstance(value, list) and are_texts and all("=" in each for each in texts)):
        return f" must be a list of KEY=VALUE, got {value!r}"
    if key == "note" and not are_texts:
        return f" must be a sentence or a list of them, got {value!r}: put it in quotes"
    if key == "cells" and not isinstance(value, Mapping):
        return f" must be a mapping by column, got {value!r}"
    return None


def _outside(value: Any, low: float, high: float) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
        return None
    allowed = "from 0 on" if high == math.inf else f"from {low:g} to {high:g}"
    return f" must be a number {allowed}, got {value!r}"
