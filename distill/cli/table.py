"""`distill table`: compare finished runs."""

from collections.abc import Sequence

from distill.cli.grammar import (
    BASELINE,
    FINISHED,
    FORMAT,
    OUT,
    Option,
    UsageError,
    deliver,
    parse,
    refuse,
    select,
    wants_help,
)
from distill.tables import records
from distill.tables.filters import FILTERS
from distill.tables.output import Views
from distill.tables.remarks import notes
from distill.tables.sheet import sheet
from distill.tables.table import Table, UnknownBaseline, build

COST = Option("--cost")
KEYS = (*FILTERS, "runs_dir")
OPTIONS = (FORMAT, BASELINE, OUT, COST)

HELP = """\
distill table [key=value ...] [--option ...]     compare finished runs

One row per configuration: its seeds are pooled; unlike teacher weights or precisions never are. The accuracy
after the last epoch counts; the best epoch stands in "selected on test": choosing it looks at the test set.

which runs (a list means any of them)
  dataset=cifar100 student=resnet8 teacher=resnet20 loss=kd,zscore_kd recipe=cifar_short
  seed=1,2,3  precision=bf16
  loss.temperature=4  recipe.epochs=10           any value of a run's config.yaml, by its path
  runs_dir=DIR                                   where runs lie (default: DISTILL_RUNS, or runs)

compared with
  --baseline PRESET    difference to this row, with 95 % intervals: Welch's, and paired by seed (default: ce)
                       a row's full name works too: --baseline "kd (temperature=2)"

how it looks
  --cost               seconds of an epoch and peak memory (of the device; on a CPU of the whole process) too
  --format terminal|markdown|latex|csv|json      (default: terminal; plain lines when piped)
  --out FILE           write there instead; FILE.md .tex .csv .json choose their format

examples
  distill table
  distill table dataset=cifar100 student=resnet8 --baseline kd
  distill table loss=kd recipe.epochs=240 --format latex --out kd.tex

exit codes: 0 done, also when there is nothing to show; 2 refused
"""


def main(argv: list[str]) -> int:
    """Run `distill table` with the words after the verb; return the exit code."""
    if wants_help(argv):
        print(HELP, end="")
        return FINISHED
    try:
        return _table(argv)
    except UsageError as error:
        return refuse(error)


def _table(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS, dotted=True)
    selection = select(line)
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    try:
        # a filter on the loss must not take away the baseline that its differences are taken to
        candidates = selection.without("loss", "teacher")
        table = build(selection.chosen, candidates=candidates, baseline=line.options.get("--baseline"))
    except UnknownBaseline as error:
        raise UsageError([str(error)]) from error
    if not table.lines:
        print(f"no finished run yet: {table.not_shown}; `distill ls` lists them")
        return FINISHED
    deliver(views(table, cost="--cost" in line.options), line)
    return FINISHED


def views(table: Table, *, cost: bool = False) -> Views:
    """The table in every shape."""
    return Views(
        sheet=lambda everything: sheet(table, everything=everything, cost=cost),
        records=lambda: records.flat(table),
        document=lambda: records.document(table),
        notes=lambda: notes(table),
    )
