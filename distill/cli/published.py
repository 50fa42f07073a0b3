"""`table=NAME rows= columns= seeds=` of a command line: which published table, what of it, for which seeds."""

from dataclasses import dataclass
from pathlib import Path

from distill.cli.grammar import CommandLine, nearest
from distill.tables.leaves import split
from distill.tables.published import DamagedTable, PublishedTable, UnknownTable, load, table_names

KEYS = ("table", "rows", "columns", "seeds")
SEEDS = 4  # what the literature's means are taken over
MOST_SEEDS = 100


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
    seeds = _seeds(line)
    try:
        table = load(line.pairs["table"], config_dir=line.config_dir)
    except UnknownTable:
        names = table_names(config_dir=line.config_dir)
        line.faults.append(f"table={line.pairs['table']} does not exist: {nearest(line.pairs['table'], names)}")
        return None
    except DamagedTable as error:
        line.faults.append(str(error))
        return None
    rows = _chosen(line, "rows", [row.key for row in table.rows])
    columns = _chosen(line, "columns", [column.key for column in table.columns])
    return None if line.faults else Asked(table, table.only(rows=rows, columns=columns), seeds)


def choices(key: str, table: str | None, *, config_dir: Path | None) -> list[str]:
    """What `table=`, `rows=` and `columns=` may be, for completion."""
    if key == "table":
        return table_names(config_dir=config_dir)
    try:
        chosen = load(table or "", config_dir=config_dir)
    except (UnknownTable, DamagedTable):
        return []
    keys = {"rows": [row.key for row in chosen.rows], "columns": [column.key for column in chosen.columns]}
    return keys.get(key, [])


def _chosen(line: CommandLine, key: str, known: list[str]) -> list[str]:
    asked = [text for text in split(line.pairs.get(key, "")) if text]
    line.faults += [
        f"{key}={text} is not in table={line.pairs['table']}: {nearest(text, known)}"
        for text in asked
        if text not in known
    ]
    return asked


def _seeds(line: CommandLine) -> tuple[int, ...]:
    """`seeds=4` are 1 to 4, `seeds=1,2,5` are these."""
    text = line.pairs.get("seeds", str(SEEDS))
    words = split(text)
    numbers = [int(word) for word in words if word.isascii() and word.isdigit()]
    if len(numbers) < len(words) or (len(numbers) == 1 and not 1 <= numbers[0] <= MOST_SEEDS):
        line.faults.append(f"seeds={text} is no number of seeds from 1 to {MOST_SEEDS}: write seeds={SEEDS}, or a list")
        return ()
    return tuple(range(1, numbers[0] + 1)) if len(numbers) == 1 else tuple(dict.fromkeys(numbers))
