"""`configs/table/NAME.yaml` read into a `PublishedTable`.

    title, source, dataset
    recipe       option of the recipe of all teachers (and, by the experiments, of the students)
    baseline     {row: KEY} or {column: KEY}
    overrides    of every cell, after its experiment
    untrainable  why none of it can be trained yet
    columns      KEY: experiment, teacher, student, teacher_accuracy, student_accuracy, learning_rate, label, preset,
                 overrides, untrainable, note, teacher_recipe
    rows         KEY: label, preset, published (one value a column), top5, epochs, runs, temperature, weights, source,
                 overrides, untrainable, note, and `cells`: {COLUMN: what differs there from the row}
    deltas       {row, against, points: one value a column}

A row of `preset: ce` without `published` has the columns' `student_accuracy`. A `note` is a sentence or a list.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.tables.published.checking import check_names, check_values
from distill.tables.published.content import Cell, Column, Delta, PublishedTable, Row
from distill.tables.published.reader import parse
from distill.tables.values import natural_key

Node = Mapping[str, Any]
RULES = ("last", "best on test", "unknown")
_TABLE = {"title", "source", "dataset", "recipe", "baseline", "overrides", "untrainable", "columns", "rows", "deltas"}
_COLUMN = {"experiment", "teacher", "student", "teacher_accuracy", "student_accuracy", "learning_rate", "label"}
_COLUMN |= {"preset", "overrides", "untrainable", "note", "teacher_recipe"}
_CELL = {"preset", "epochs", "runs", "deviation", "temperature", "weights", "overrides", "untrainable", "note"}
_ROW = _CELL | {"label", "published", "top5", "source", "cells"}


class UnknownTable(ValueError):
    """No table has that name; the sentence names those there are."""


class DamagedTable(ValueError):
    """A table's file does not say what a table must; the sentence names the file and the key."""


def table_names(*, config_dir: Path | None = None) -> list[str]:
    """The names of the shipped tables, and of those in `config_dir/table`, in the order people expect."""
    found = {path.stem for folder in _folders(config_dir) for path in folder.glob("*.yaml")}
    return sorted(found, key=natural_key)


def load(name: str, *, config_dir: Path | None = None) -> PublishedTable:
    """The table of that name; one of `config_dir/table` is read where no shipped one has it.

    Raises UnknownTable, or DamagedTable where the file is not what a table's must be.
    """
    paths = [folder / f"{name}.yaml" for folder in _folders(config_dir)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None or not name:
        raise UnknownTable(f"table={name} does not exist: there are {', '.join(table_names(config_dir=config_dir))}")
    try:
        return _table(name, _known(parse(path.read_bytes()), _TABLE | {"note"}, "the table"))
    except (yaml.YAMLError, OSError) as error:
        raise DamagedTable(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except KeyError as error:
        raise DamagedTable(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedTable(f"{path}: {error}") from error


def shipped() -> Path:
    """The folder of what is shipped as configuration: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    return next(folder / "configs" for folder in (package, package.parent) if (folder / "configs").is_dir())


def _folders(config_dir: Path | None) -> list[Path]:
    return [shipped() / "table", *([config_dir / "table"] if config_dir else [])]


def _table(name: str, content: Node) -> PublishedTable:
    check_names(content["columns"], "column")
    check_names(content["rows"], "row")
    columns = {key: _known(node, _COLUMN, f"column {key}") for key, node in content["columns"].items()}
    rows = {key: _known(node, _ROW, f"row {key}") for key, node in content["rows"].items()}
    cells = {(row, column): _cell(content, row, column) for column in columns for row in rows}
    baseline = _known(content.get("baseline") or {}, {"row", "column"}, "baseline")
    for what, there in (("row", rows), ("column", columns)):
        if baseline.get(what) not in (None, *there):
            raise ValueError(f"baseline names the {what} {baseline[what]!r}, which the table has not")
    return PublishedTable(
        name=name,
        title=content["title"],
        source=content["source"],
        dataset=content["dataset"],
        rows=tuple(_row(key, node, content["source"]) for key, node in rows.items()),
        columns=tuple(_column(key, node, content) for key, node in columns.items()),
        cells=cells,
        baseline_row=baseline.get("row"),
        baseline_column=baseline.get("column"),
        deltas=tuple(_delta(node, list(columns)) for node in content.get("deltas") or ()),
        notes=_sentences(content.get("note")),
    )


def _row(key: str, node: Node, source: str) -> Row:
    return Row(
        key=key,
        label=node.get("label", key),
        preset=node.get("preset"),
        source=node.get("source", source),
        notes=_sentences(node.get("note")),
    )


def _column(key: str, node: Node, content: Node) -> Column:
    teacher, student = node.get("teacher"), node.get("student")
    recipe = node.get("teacher_recipe", content.get("recipe"))
    trained = [f"dataset={content['dataset']}", f"student={teacher}", f"recipe={recipe}", "loss=ce"]
    return Column(
        key=key,
        label=node.get("label", f"{teacher} -> {student}"),
        experiment=node.get("experiment"),
        teacher=teacher,
        student=student,
        teacher_accuracy=node.get("teacher_accuracy"),
        student_accuracy=node.get("student_accuracy"),
        learning_rate=node.get("learning_rate"),
        teacher_overrides=tuple(trained) if teacher and recipe and not _untrainable(content, node) else (),
        notes=_sentences(node.get("note")),
    )


def _cell(content: Node, row: str, column: str) -> Cell:
    position = list(content["columns"]).index(column)
    across, along = content["columns"][column], content["rows"][row]
    own = _known((along.get("cells") or {}).get(column) or {}, _CELL, f"cell {row}, {column}")
    if wrong := set(along.get("cells") or {}) - set(content["columns"]):
        raise ValueError(f"row {row} has a cell in {min(wrong)}, which is no column")
    told = {**along, **own}
    if told.get("epochs", "unknown") not in RULES:
        raise ValueError(f"epochs of row {row} is {told['epochs']!r}: write {', '.join(RULES)}")
    preset = own.get("preset", along.get("preset", across.get("preset")))
    reason = _untrainable(content, across, told) or (None if preset else "we have no such method")
    count = len(content["columns"])
    return Cell(
        row=row,
        column=column,
        value=across.get("student_accuracy") if _is_alone(along) else _at(along, "published", position, count, row),
        top5=_at(along, "top5", position, count, row),
        epochs=told.get("epochs", "unknown"),
        runs=told.get("runs"),
        deviation=told.get("deviation"),
        temperature=told.get("temperature"),
        weights={**(along.get("weights") or {}), **(own.get("weights") or {})},
        overrides=() if reason else (*_from(across, content), f"loss={preset}", *_more(along), *_more(own)),
        untrainable=reason,
        notes=_sentences(own.get("note")),
    )


def _is_alone(row: Node) -> bool:
    return row.get("preset") == "ce" and "published" not in row


def _from(column: Node, content: Node) -> tuple[str, ...]:
    experiment = column.get("experiment")
    return (*([f"experiment={experiment}"] if experiment else []), *_more(column), *_more(content))


def _more(node: Node) -> tuple[str, ...]:
    return tuple(node.get("overrides") or ())


def _untrainable(*nodes: Node) -> str | None:
    return next((node["untrainable"] for node in nodes if node.get("untrainable")), None)


def _at(row: Node, key: str, position: int, count: int, name: str) -> float | None:
    values = row.get(key)
    if values is None:
        return None
    if len(values) != count:
        raise ValueError(f"{key} of row {name} has {len(values)} values for {count} columns")
    value = values[position]
    return None if value is None else float(value)


def _delta(node: Node, columns: Sequence[str]) -> Delta:
    return Delta(node["row"], node["against"], dict(zip(columns, map(float, node["points"]), strict=True)))


def _sentences(note: str | list[str] | None) -> tuple[str, ...]:
    return (note,) if isinstance(note, str) else tuple(note or ())


def _known(node: Any, keys: set[str], where: str) -> Node:
    if not isinstance(node, Mapping):
        raise ValueError(f"{where} must be a mapping, got {node!r}")
    if wrong := set(node) - keys:
        raise ValueError(f"{where} has no key {min(map(str, wrong))!r}: there are {', '.join(sorted(keys))}")
    check_values(node, where)
    return node
