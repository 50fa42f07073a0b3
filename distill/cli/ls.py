"""`distill ls`: one run a line."""

import sys
from collections.abc import Sequence

from distill.cli.grammar import (
    FAILED,
    FINISHED,
    FORMAT,
    OUT,
    Option,
    deliver,
    parse,
    run_verb,
    select,
)
from distill.runs.files import StorageError
from distill.runs.occupied import remove_table, size_of, tables
from distill.runs.store import RunRecord
from distill.tables.filters import FILTERS
from distill.tables.listing import content

KEYS = (*FILTERS, "runs_dir")
SIZE, PRUNE = Option("--size"), Option("--prune")
OPTIONS = (FORMAT, OUT, SIZE, PRUNE)

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
  --format terminal|markdown|latex|csv|json|html (default: terminal; plain lines when piped)
  --out FILE           write there instead; FILE.md .tex .csv .json .html choose their format
  --size               what each run takes of the disk, the tables of its logits included

and what can go
  --prune              instead of listing them, remove the tables that lie with these runs; they are built
                       again where one is needed, and runs and weights stay

examples
  distill ls
  distill ls dataset=digits loss=kd
  distill ls | grep unfinished
  distill ls --prune student=resnet32x4

exit codes: 0 done, also when there is nothing to list; 1 a table could not be removed; 2 refused
"""


def main(argv: list[str]) -> int:
    """Run `distill ls` with the words after the verb; return the exit code."""
    return run_verb(argv, _list, help_text=HELP)


def _list(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS, dotted=True)
    prunes = PRUNE.word in line.options
    if prunes and len(line.options) > 1:
        line.faults.append(f"{PRUNE.word} lists nothing: give it without other options")
    selection = select(line)
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    if prunes:
        return _prune(selection.chosen)
    deliver(content(selection.chosen, size=SIZE.word in line.options), line)
    return FINISHED


def _prune(records: Sequence[RunRecord]) -> int:
    """Remove every table of the runs, say which, and how much room that made."""
    freed, code = 0, FINISHED
    for folder in (folder for record in records for folder in tables(record.path)):
        try:
            took = remove_table(folder)
        except StorageError as error:
            print(error, file=sys.stderr)
            code = FAILED
            continue
        if took is None:
            print(f"kept {folder}: it is being built")
            continue
        freed += took
        print(f"removed {folder}, {size_of(took)}")
    print(f"{size_of(freed)} freed" if freed else "no table to remove")
    return code
