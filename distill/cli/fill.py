"""`distill fill`: train the runs that a published table still lacks."""

import re
import sys
import time
from typing import Any

from distill.cli.arguments import (
    ANY,
    CONFIG_DIR,
    FAILED,
    NEW_PLACES,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
    exit_code,
)
from distill.cli.lookup import COLUMNS, ROWS, SEEDS, TABLE, TableRequest, read_table, whole_numbers
from distill.cli.train import GROUPS
from distill.tables.published import table_names
from distill.tables.values import split_list

TEACHER_SEEDS = Argument("teacher.seed", "0,1,2", "fill every cell with each of these teachers (default: 0)")
BUDGET = Argument(
    "budget",
    "9m",
    "or 90s, 2h, 1h30m: stop within this time, with everything saved and exit code 0, and\nprint how much is left",
)
SIZE = Argument("hydra.launcher.size", "8", "train at most so many runs side by side: fewer take less memory")
PLAN = Argument("--plan", help="print what is missing and how long it takes, and stop (the data must be there)")
RETRY = Argument("--retry", help="also train the runs that failed")
OF_TABLE = (TABLE, ROWS, COLUMNS, SEEDS, TEACHER_SEEDS, BUDGET, SIZE)  # all other keys are given to every run
VERB = Verb(
    name="fill",
    usage=("table=NAME [KEY=VALUE ...] [--OPTION ...]",),
    about="""\
Train the runs missing from a published table, in this order: unfinished runs, teachers and first stages, one seed of
every cell, the next seed of every cell. Runs with the same teacher train side by side. All runs are checked before the
first one starts; cells that cannot be trained here are listed and left out. The plan shows the epochs and images to
process, and the time if runs of the same pair have finished on this device. Type the command again to continue:
finished runs are skipped, unfinished ones resumed.""",
    sections=(
        ("Cells", (TABLE, ROWS, COLUMNS, SEEDS, TEACHER_SEEDS)),
        ("Time and memory", (BUDGET, PLAN, SIZE)),
        (
            "For every run",
            (
                *NEW_PLACES,
                RUNS_DIR,
                Argument("precision"),
                *map(Argument, (*GROUPS, "seed")),
                "precision=auto engine.device=cuda engine.threads=1 teacher.source=live",
                "and any other key of `distill train` that the table leaves open",
                RETRY,
                CONFIG_DIR,
            ),
        ),
    ),
    examples=(
        "distill fill table=cifar100_small dataset.npz=cifar100.npz seeds=3 budget=9m",
        "distill fill table=cifar100_same columns=resnet56_resnet20 rows=ce,kd,zscore_kd --plan",
        "distill fill table=cifar100_small rows=kd teacher.seed=0,1,2 engine.threads=1",
    ),
    exit_codes="0 done, or the time is up; 1 a run failed, or a signal stopped it; 2 the command was refused;\n"
    "3 another process is working on a run",
    dotted=ANY,
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def run(line: CommandLine) -> int:
    """Train the missing runs; return the exit code."""
    begun = time.monotonic()
    request = read_request(line)
    line.check()
    assert request is not None  # otherwise there is a fault

    from distill.execution.filling import Request, fill
    from distill.execution.stopping import Interrupted

    retry, only_plan = (option.name in line.options for option in (RETRY, PLAN))
    try:
        return exit_code(fill(Request(**request), line.words, retry=retry, only_plan=only_plan, begun=begun))
    except Interrupted as error:
        print(error, file=sys.stderr)
        return FAILED


def read_request(line: CommandLine) -> dict[str, Any] | None:
    """The fields of `execution.filling.Request`; None where the table is wrong. Mistakes are added to the line."""
    chosen = _table(line)
    for key in GROUPS:
        if key in line.pairs:
            line.fault(f"{key}= is set by the cells of the table: leave it out, or write a table of your own", of=key)
    if "seed" in line.pairs:
        line.fault("seed= is for one run: write seeds=3 for seeds 1 to 3, or seeds=1,2,5", of="seed")
    text = line.pairs.get(TEACHER_SEEDS.name, "0")
    teacher_seeds = whole_numbers(text)
    if teacher_seeds is None:
        line.fault(f"teacher.seed={text} must be whole numbers from 0 on: 0, or 0,1,2", of=TEACHER_SEEDS.name)
    budget = _budget(line)
    size = whole_numbers(line.pairs.get(SIZE.name, SIZE.metavar))
    if size is None or len(size) > 1 or size[0] < 1:
        line.fault(
            f"{SIZE.name}={line.pairs[SIZE.name]} must be one whole number from 1 on: 4, for example", of=SIZE.name
        )
    of_table = {*(argument.name for argument in OF_TABLE), *GROUPS, "seed"}
    overrides = {key: value for key, value in line.pairs.items() if key not in of_table}
    for key, value in overrides.items():
        if len(split_list(value)) > 1:
            line.fault(f"{key}={value} names several values: choose one for all runs of the table", of=key)
    if chosen is None:
        return None
    if "teacher.run" in line.pairs and len({column.teacher for column in chosen.shown.columns}) > 1:
        line.fault("teacher.run= is one teacher, but the columns have several: choose with columns=", of="teacher.run")
    return {
        "table": chosen.shown,
        "seeds": chosen.seeds,
        "teacher_seeds": teacher_seeds or (),
        "overrides": tuple(f"{key}={value}" for key, value in overrides.items()),
        "budget": budget,
        "size": size[0] if size else 1,
        "config_dir": line.config_dir,
    }


def _table(line: CommandLine) -> TableRequest | None:
    if TABLE.name in line.pairs:
        return read_table(line)
    line.require(
        TABLE.name, f"fill needs a table: add table=NAME, one of {', '.join(table_names(config_dir=line.config_dir))}"
    )
    return None


def _budget(line: CommandLine) -> float | None:
    """Seconds: `90s`, `9m`, `2h`, `1h30m`."""
    text = line.pairs.get(BUDGET.name)
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        line.fault(f"budget={text} must be a time with its unit: 90s, 9m, 2h or 1h30m", of=BUDGET.name)
    elif seconds <= 0:
        line.fault(f"budget={text} must be more than 0: 9m, for example", of=BUDGET.name)
    return seconds
