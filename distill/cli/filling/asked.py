"""What a `distill fill` command asks for, read and checked as far as that takes no torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from distill.cli import published
from distill.cli.grammar import CommandLine
from distill.tables.published import PublishedTable, table_names
from distill.tables.values import split_list

OWN = (*published.KEYS, "budget", "teacher.seed")  # all else is for every run
GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
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
    chosen = _chosen(line)
    for key in GROUPS:
        if key in line.pairs:
            line.faults.append(f"{key}= is what the cells of a table say: leave it out, or write a table of your own")
    if "seed" in line.pairs:
        line.faults.append("seed= is for one run: seeds=3 means 1 to 3, seeds=1,2,5 these")
    teacher_seeds = _teacher_seeds(line)
    budget = _budget(line)
    given = [(key, value) for key, value in line.pairs.items() if key not in (*OWN, *GROUPS, "seed")]
    for key, value in given:
        if len(split_list(value)) > 1:
            line.faults.append(f"{key}={value} names several values: choose one for all runs of the table")
    if chosen is None:
        return None
    if "teacher.run" in line.pairs and len({column.teacher for column in chosen.shown.columns}) > 1:
        line.faults.append("teacher.run= is one teacher, the columns have several: choose with columns=")
    overrides = tuple(f"{key}={value}" for key, value in given)
    return Asked(chosen.shown, chosen.seeds, teacher_seeds, overrides, budget, line.config_dir)


def _chosen(line: CommandLine) -> published.Asked | None:
    if "table" in line.pairs:
        return published.read_asked(line)
    if not any("table=" in fault for fault in line.faults):
        names = ", ".join(table_names(config_dir=published.tables_folder(line)))
        line.faults.append(f"fill needs a table: add table=NAME, one of {names}")
    return None


def _teacher_seeds(line: CommandLine) -> tuple[int, ...]:
    text = line.pairs.get("teacher.seed", "0")
    numbers = published.whole_numbers(text)
    if numbers is None:
        line.faults.append(f"teacher.seed={text} must be whole numbers from 0 on: 0, or 0,1,2")
    return numbers or ()


def _budget(line: CommandLine) -> float | None:
    """Seconds: `90s`, `9m`, `2h`, `1h30m`."""
    text = line.pairs.get("budget")
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        line.faults.append(f"budget={text} must be a time with its unit: 90s, 9m, 2h or 1h30m")
    elif seconds <= 0:
        line.faults.append(f"budget={text} must be more than nothing: 9m, say")
    return seconds
