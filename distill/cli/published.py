"""`table=NAME rows= columns= seeds=` of a command line: which published table, what of it, for which seeds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.cli.grammar import CommandLine, nearest
from distill.tables.published import DamagedTable, PublishedTable, UnknownTable, load, table_names
from distill.tables.values import split_list

KEYS = ("table", "rows", "columns", "seeds")
SEEDS = 4  # what the literature's means are taken over
MOST_SEEDS = 100  # more is a mistyped number


@dataclass(frozen=True)
class Asked:
    """The whole table, the part of it that was asked for, and the seeds that its cells are wanted with."""

    table: PublishedTable
    shown: PublishedTable
    seeds: tuple[int, ...]


def read_asked(line: CommandLine) -> Asked | None:
    """The table that the command names, None without `table=` or where it is wrong; faults join the line's."""
    if "table" not in line.pairs:
        line.faults += [f"{key}= chooses from a published table: add table=NAME" for key in KEYS if key in line.pairs]
        return None
    before = len(line.faults)
    seeds = _seeds(line)
    folder = tables_folder(line)
    try:
        table = load(line.pairs["table"], config_dir=folder)
    except UnknownTable:
        names = table_names(config_dir=folder)
        line.faults.append(f"table={line.pairs['table']} does not exist: {nearest(line.pairs['table'], names)}")
        return None
    except DamagedTable as error:
        line.faults.append(str(error))
        return None
    rows = _chosen(line, "rows", {row.key: row.label for row in table.rows})
    columns = _chosen(line, "columns", {column.key: column.label for column in table.columns})
    return Asked(table, table.only(rows=rows, columns=columns), seeds) if len(line.faults) == before else None


def tables_folder(line: CommandLine) -> Path | None:
    """The user's own presets, None where there are none; that a folder is no folder is said elsewhere."""
    return line.config_dir if line.config_dir is not None and line.config_dir.is_dir() else None


def whole_numbers(text: str) -> tuple[int, ...] | None:
    """`0`, or `0,1,2`; None for what is none."""
    words = [word for word in split_list(text) if word]
    if not words or not all(re.fullmatch(r"[0-9]{1,9}", word) for word in words):
        return None
    return tuple(dict.fromkeys(map(int, words)))


def _chosen(line: CommandLine, key: str, labels: Mapping[str, str]) -> list[str]:
    """The keys of the rows or columns that the command names by key or label; none for all."""
    found = []
    called = {name.casefold(): one for one, label in labels.items() for name in (label, one)}
    for name in filter(None, split_list(line.pairs.get(key, ""))):
        if name.casefold() in called:
            found.append(called[name.casefold()])
        else:
            line.faults.append(f"{key}={name} is not in table={line.pairs['table']}: {nearest(name, labels)}")
    return found


def _seeds(line: CommandLine) -> tuple[int, ...]:
    """`seeds=4` are 1 to 4, `seeds=1,2,5` are these."""
    text = line.pairs.get("seeds", str(SEEDS))
    numbers = whole_numbers(text)
    if numbers is None or ("," not in text and not 1 <= numbers[0] <= MOST_SEEDS):
        line.faults.append(f"seeds={text} must be how many (1 to {MOST_SEEDS}) or which: seeds={SEEDS}, or seeds=1,2,5")
        return ()
    return numbers if "," in text else tuple(range(1, numbers[0] + 1))
