"""`distill fill`: train the missing cells of a published table."""

import sys
import time
from collections.abc import Sequence

from distill.cli import import_from_here
from distill.cli.filling.asked import GROUPS, OWN, Asked, ask
from distill.cli.grammar import (
    CONFIG_DIR,
    FAILED,
    FINISHED,
    REFUSED,
    CommandLine,
    Option,
    UsageError,
    parse,
    refuse,
    wants_help,
)

HELP = """\
distill fill table=NAME [key=value ...] [--option ...]     train the missing cells of a published table

The most informative first: half-trained runs, teachers, one seed of every cell, then the next seed of every cell.
Runs that share a teacher train side by side. All runs are composed and checked before the first starts; what cannot
be trained here is named and left out; the plan is printed with its estimated time. Typed again, here or where the
same runs lie, it goes on: finished runs are skipped, half-trained ones resumed.

which cells
  table=cifar100_same       `distill table table=NAME` shows it
  rows=kd,zscore_kd  columns=resnet56_resnet20       some of them (default: all)
  seeds=4                   seeds 1 to 4 (the default); seeds=1,2,5 these
  teacher.seed=0,1,2        several teachers: every cell with each (default: 0)

how long
  budget=9m                 also 90s, 2h, 1h30m: stops before, everything saved, with exit code 0, and says how much is
                            left; nothing is begun of which an epoch would not fit in

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
        line, asked = _read(argv)
        line.check()
        assert asked is not None  # else there is a fault
        return _fill(line, asked, argv, begun=begun)
    except UsageError as error:
        return refuse(error)
    except KeyboardInterrupt:  # outside of training, or a second time: nothing to save, or no time for it
        print("stopped: type the command again to go on", file=sys.stderr)
        return FAILED


def _fill(line: CommandLine, asked: Asked, argv: Sequence[str], *, begun: float) -> int:
    import_from_here()

    from distill.cli.filling.carry_out import carry_out  # with torch, for which no refusal waits
    from distill.config.preflight import Faults

    retry, only_plan = (option.word in line.options for option in (RETRY, PLAN))
    try:
        return carry_out(asked, argv, retry=retry, only_plan=only_plan, begun=begun)
    except Faults as faults:
        for sentence in faults.sentences:
            print(sentence, file=sys.stderr)
        return REFUSED


def read(argv: Sequence[str]) -> CommandLine:
    """The command line with its faults."""
    return _read(argv)[0]


def _read(argv: Sequence[str]) -> tuple[CommandLine, Asked | None]:
    line = parse(argv, keys=(*KEYS, *GROUPS, "seed"), options=OPTIONS, dotted=True)
    return line, ask(line)
