"""`distill ls`: one run a line."""

import sys
from collections.abc import Sequence
from pathlib import Path

from distill.cli.arguments import (
    ANY,
    FAILED,
    FILTERS,
    FINISHED,
    FORMAT,
    OUT,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import CHOSEN, SORT, STATUS, select, show
from distill.runs.escapes import escaped
from distill.runs.files import StorageError
from distill.runs.store import published_teachers, remove_table, size_of, tables
from distill.tables.listing import content

SIZE = Argument("--size", help="also the space that each run takes on disk, with its tables of teacher logits")
PRUNE = Argument(
    "--prune",
    help="instead of listing, delete the stored teacher logits of the chosen runs (without a\n"
    "filter: of all runs). Runs and weights are kept; a table of logits is built\n"
    "again when it is needed",
)
VERB = Verb(
    name="ls",
    usage=("[KEY=VALUE ...] [--OPTION ...]",),
    about="""\
List runs, finished or not, one a line: id, status, data set, student, teacher, loss, seed, precision, and the accuracy
after the last epoch so far. The status includes where a run failed, or how far an unfinished one has come and which
process is working on it.""",
    sections=(
        ("Which runs (default: all)", (*FILTERS, STATUS, RUNS_DIR)),
        ("Output", (FORMAT, OUT, SORT, CHOSEN, SIZE)),
        ("Free disk space", (PRUNE,)),
    ),
    examples=(
        "distill ls",
        "distill ls dataset=digits loss=kd",
        "distill ls status=failed,unfinished",
        "distill ls --prune student=resnet32x4",
    ),
    exit_codes="0 done, also when there is nothing to list; 1 a table could not be deleted; 2 the command was refused",
    dotted=ANY,
)


def run(line: CommandLine) -> int:
    """List the runs, or delete their tables of logits; return the exit code."""
    prune = PRUNE.name in line.options
    if prune and len(line.options) > 1:
        line.fault("--prune lists nothing: leave out the other options", of=PRUNE.name)
    selection = select(line)
    if not selection.chosen:
        print(escaped(selection.nothing()))
        return FINISHED
    if prune:
        whole = len(selection.chosen) == len(selection.records)
        published = published_teachers(line.runs_dir) if whole else []
        return _prune([*(record.path for record in selection.chosen), *published])
    show(content(selection.chosen, size=SIZE.name in line.options), line)
    return FINISHED


def _prune(teachers: Sequence[Path]) -> int:
    """Delete every table of logits in these teachers' folders, and print which and how much space that frees."""
    freed, code = 0, FINISHED
    for teacher in teachers:
        try:
            folders = tables(teacher)
        except StorageError as error:
            print(error, file=sys.stderr)
            folders, code = [], FAILED
        for folder in folders:
            try:
                size = remove_table(folder)
            except StorageError as error:
                print(error, file=sys.stderr)
                code = FAILED
                continue
            done = f"kept {folder}: a process is building it" if size is None else f"removed {folder}, {size_of(size)}"
            print(escaped(done))
            freed += size or 0
    print(f"{size_of(freed)} freed" if freed else "no table to remove")
    return code
