"""`distill ls`: one run a line."""

from collections.abc import Sequence

from distill.cli.grammar import FINISHED, FORMAT, OUT, UsageError, deliver, parse, refuse, select, wants_help
from distill.tables.filters import FILTERS
from distill.tables.listing import as_data, entries, sheet
from distill.tables.output import Views

KEYS = (*FILTERS, "runs_dir")
OPTIONS = (FORMAT, OUT)

HELP = """\
distill ls [key=value ...] [--option ...]     list runs: one a line, finished or not

id, status, dataset, student, teacher, loss, seed, precision, and the accuracy after the last epoch there is.
The status says where a failed run failed, who is at work on a running one, how far an unfinished one came.

which runs (a list means any of them)
  dataset=cifar100 student=resnet8 teacher=resnet20 loss=kd,zscore_kd recipe=cifar_short
  seed=1,2,3  precision=bf16
  loss.temperature=4  recipe.epochs=10           any value of a run's config.yaml, by its path
  runs_dir=DIR                                   where runs lie (default: DISTILL_RUNS, or runs)

how it looks
  --format terminal|markdown|latex|csv|json      (default: terminal; plain lines when piped)
  --out FILE           write there instead; FILE.md .tex .csv .json choose their format

examples
  distill ls
  distill ls dataset=digits loss=kd
  distill ls | grep unfinished

exit codes: 0 done, also when there is nothing to list; 2 refused
"""


def main(argv: list[str]) -> int:
    """Run `distill ls` with the words after the verb; return the exit code."""
    if wants_help(argv):
        print(HELP, end="")
        return FINISHED
    try:
        return _list(argv)
    except UsageError as error:
        return refuse(error)


def _list(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS, dotted=True)
    selection = select(line)
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    listed = entries(selection.chosen)
    deliver(
        Views(
            sheet=lambda everything: sheet(listed),
            records=lambda: as_data(listed),
            document=lambda: {"runs": as_data(listed)},
            notes=list,
        ),
        line,
    )
    return FINISHED
