"""`distill fill`: train the missing cells of a published table."""

import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from distill.cli import import_from_here, published
from distill.cli.grammar import (
    CONFIG_DIR,
    FAILED,
    FINISHED,
    REFUSED,
    CommandLine,
    Option,
    UsageError,
    exit_code,
    parse,
    refuse,
    wants_help,
)
from distill.tables.published import table_names
from distill.tables.values import split_list

HELP = """\
distill fill table=NAME [key=value ...] [--option ...]     train the missing cells of a published table

The most informative first: half-trained runs, teachers, one seed of every cell, then the next seed of every cell.
Runs that share a teacher train side by side. All runs are checked before the first starts; cells that cannot be
trained here are listed and left out. The plan shows the images to process, and the time where runs of the same pair
have finished on this device. Typed again, the command goes on: finished runs are skipped, half-trained ones resumed.

which cells
  table=cifar100_same       `distill table table=NAME` shows it
  rows=kd,zscore_kd  columns=resnet56_resnet20       some of them (default: all)
  seeds=4                   seeds 1 to 4 (the default); seeds=1,2,5 these
  teacher.seed=0,1,2        several teachers: every cell with each (default: 0)

how long
  budget=9m                 also 90s, 2h, 1h30m: training stops in time, everything is saved, the exit code is 0, and
                            the command prints how much is left

for every run
  dataset.npz=FILE  dataset.root=DIR  dataset.download=true      where the data lie
  precision=auto  engine.device=cuda  engine.threads=1  teacher.source=live  runs_dir=DIR
  recipe.epochs=10          any value, as in `distill train`; what changes a run's id fills no published cell

options
  --plan                    say what is missing and how long it takes, and stop
  --retry                   take up runs that failed
  --config-dir DIR          tables (DIR/table/NAME.yaml) and presets of your own

examples
  distill fill table=cifar100_small dataset.npz=cifar100.npz seeds=3 budget=9m
  distill fill table=cifar100_same columns=resnet56_resnet20 rows=ce,kd,zscore_kd --plan
  distill fill table=cifar100_small rows=kd teacher.seed=0,1,2 engine.threads=1

exit codes: 0 done, or stopped by the budget; 1 a run failed, or stopped by a signal; 2 refused; 3 busy elsewhere
"""

OWN = (*published.KEYS, "budget", "teacher.seed")  # all other keys are given to every run
GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
PLAN, RETRY = Option("--plan"), Option("--retry")
KEYS = (*OWN, "precision", "runs_dir", "dataset.npz", "dataset.root", "dataset.download")
OPTIONS = (CONFIG_DIR, PLAN, RETRY)


def main(argv: list[str]) -> int:
    """Run `distill fill` with the words after the verb; return the exit code."""
    if wants_help(argv):
        print(HELP, end="")
        return FINISHED
    begun = time.monotonic()
    try:
        line, wanted = _read(argv)
        line.check()
        assert wanted is not None  # else there is a fault
        return _fill(line, wanted, argv, begun=begun)
    except UsageError as error:
        return refuse(error)
    except KeyboardInterrupt:  # outside of training, or a second time: nothing to save, or no time for it
        print("stopped: type the command again to go on", file=sys.stderr)
        return FAILED


def _fill(line: CommandLine, wanted: dict[str, Any], argv: Sequence[str], *, begun: float) -> int:
    import_from_here()

    from distill.config.preflight import Faults
    from distill.execution.filling import Request, fill
    from distill.execution.stopping import Interrupted

    retry, only_plan = (option.word in line.options for option in (RETRY, PLAN))
    try:
        return exit_code(fill(Request(**wanted), argv, retry=retry, only_plan=only_plan, begun=begun))
    except Faults as faults:
        for sentence in faults.sentences:
            print(sentence, file=sys.stderr)
        return REFUSED
    except Interrupted as error:
        print(error, file=sys.stderr)
        return FAILED


def read(argv: Sequence[str]) -> CommandLine:
    """The command line with its faults."""
    return _read(argv)[0]


def _read(argv: Sequence[str]) -> tuple[CommandLine, dict[str, Any] | None]:
    line = parse(argv, keys=(*KEYS, *GROUPS, "seed"), options=OPTIONS, dotted=True)
    return line, request(line)


def request(line: CommandLine) -> dict[str, Any] | None:
    """The fields of `execution.filling.Request`; None where the table is wrong. Faults are added to the line's."""
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
    return {
        "table": chosen.shown,
        "seeds": chosen.seeds,
        "teacher_seeds": teacher_seeds,
        "overrides": overrides,
        "budget": budget,
        "config_dir": line.config_dir,
    }


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
