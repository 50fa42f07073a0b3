"""What a `distill fill` command asks for, read and checked as far as that takes no torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distill.cli.grammar import CommandLine, nearest
from distill.tables.leaves import split
from distill.tables.published import DamagedTable, PublishedTable, UnknownTable, load, table_names

OWN = ("table", "rows", "columns", "seeds", "budget", "teacher.seed")  # all else is for every run
GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
SEEDS = 4
MOST = 1000  # of seeds; more is a mistyped number
T = TypeVar("T")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Asked:
    """Which cells, which seeds of students and teachers, what every run is told besides, and the seconds there are."""

    table: PublishedTable
    seeds: tuple[int, ...]
    teacher_seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    budget: float | None
    config_dir: Path | None


def ask(line: CommandLine) -> Asked | None:
    """What the command asks for; None where that cannot be known. What is wrong is added to the line's faults."""
    table = _table(line)
    for key in GROUPS:
        if key in line.pairs:
            line.faults.append(f"{key}= is what the cells of a table say: leave it out, or write a table of your own")
    if "seed" in line.pairs:
        line.faults.append("seed= is for one run: seeds=3 means 1 to 3, seeds=1,2,5 these")
    seeds = _read(line, "seeds", _seeds, _seeds(str(SEEDS)))
    teacher_seeds = _read(line, "teacher.seed", _numbers, _numbers("0"))
    budget = _read(line, "budget", _seconds, None)
    given = [(key, value) for key, value in line.pairs.items() if key not in (*OWN, *GROUPS, "seed")]
    for key, value in given:
        if len(split(value)) > 1:
            line.faults.append(f"{key}={value} names several values: choose one for all runs of the table")
    if table is None:
        return None
    if "teacher.run" in line.pairs and len({column.teacher for column in table.columns}) > 1:
        line.faults.append("teacher.run= is one teacher, the columns have several: choose with columns=")
    overrides = tuple(f"{key}={value}" for key, value in given)
    return Asked(table, seeds, teacher_seeds, overrides, budget, line.config_dir)


def _table(line: CommandLine) -> PublishedTable | None:
    name = line.pairs.get("table")
    folder = line.config_dir if line.config_dir is not None and line.config_dir.is_dir() else None
    if name is None:
        if not any("table=" in fault for fault in line.faults):
            names = ", ".join(table_names(config_dir=folder))
            line.faults.append(f"fill needs a table: add table=NAME, one of {names}")
        return None
    try:
        table = load(name, config_dir=folder)
    except UnknownTable:
        line.faults.append(f"table={name} does not exist: {nearest(name, table_names(config_dir=folder))}")
        return None
    except DamagedTable as error:
        line.faults.append(str(error))
        return None
    rows = _chosen(line, "rows", {row.key: row.label for row in table.rows})
    columns = _chosen(line, "columns", {column.key: column.label for column in table.columns})
    return None if rows is None or columns is None else table.only(rows=rows, columns=columns)


def _chosen(line: CommandLine, key: str, labels: dict[str, str]) -> list[str] | None:
    """The keys of the rows or columns that the command names by key or label, none for all; None after a fault."""
    found = []
    faults = len(line.faults)
    called = {name.casefold(): one for one, label in labels.items() for name in (label, one)}
    for name in filter(None, split(line.pairs.get(key, ""))):
        if name.casefold() in called:
            found.append(called[name.casefold()])
        else:
            line.faults.append(f"{key}={name} is not in the table: {nearest(name, labels)}")
    return found if len(line.faults) == faults else None


def _read(line: CommandLine, key: str, read: Callable[[str], T], default: T) -> T:
    if key not in line.pairs:
        return default
    try:
        return read(line.pairs[key])
    except ValueError as error:
        line.faults.append(f"{key}={line.pairs[key]} {error}")
        return default


def _seeds(text: str) -> tuple[int, ...]:
    """`3` is 1, 2, 3; `1,2,5` is what it says."""
    if "," in text:
        return _numbers(text)
    if not re.fullmatch(r"\d+", text) or not 1 <= int(text) <= MOST:
        raise ValueError(f"must be how many (1 to {MOST}) or which: seeds=3, or seeds=1,2,5")
    return tuple(range(1, int(text) + 1))


def _numbers(text: str) -> tuple[int, ...]:
    words = [word for word in split(text) if word]
    if not words or not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        raise ValueError("must be whole numbers from 0 on: 0, or 0,1,2")
    return tuple(dict.fromkeys(map(int, words)))


def _seconds(text: str) -> float | None:
    """`90s`, `9m`, `2h`, `1h30m`."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("must be a time with its unit: 90s, 9m, 2h or 1h30m")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError("must be more than nothing: 9m, say")
    return seconds
