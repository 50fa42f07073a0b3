"""`distill table`: compare finished runs, also with published numbers."""

import gc
from dataclasses import replace

from distill.cli.arguments import (
    ANY,
    CONFIG_DIR,
    FILTERS,
    FINISHED,
    FORMAT,
    OUT,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import CHOSEN, OF_TABLE, SORT, TableRequest, measure, read_table, select, show
from distill.config.faults import Refused, nearest
from distill.runs.escapes import escaped
from distill.tables.published_data import content
from distill.tables.table import UnknownBaseline, build

BASELINE = Argument(
    "--baseline",
    "PRESET",
    "the row that all others are compared with (default: ce): a preset or a whole row name,\n"
    '--baseline "kd (temperature=2)"; with table=, one of its rows',
)
RUNS = Argument("--runs", help="one row per run instead of per configuration, also runs evaluated on held-out images")
COST = Argument("--cost", help="also seconds per epoch and peak memory (of the GPU; on a CPU of the whole process)")
VERB = Verb(
    name="table",
    usage=("[KEY=VALUE ...] [--OPTION ...]",),
    about="""\
Compare finished runs. A row is one configuration; its runs with different seeds are averaged. Runs whose teachers have
different weights, or whose precision differs, are never averaged. The main column is the accuracy after the last epoch.
The best epoch has a column of its own, since it is chosen on the test set. Each difference has two 95 % intervals:
Welch's, and one paired by seed.""",
    sections=(
        ("Which runs (default: all)", (*FILTERS, RUNS_DIR)),
        ("Next to published numbers", (*OF_TABLE, "A cell that lacks runs comes with the command that trains them.")),
        ("Comparison", (BASELINE, COST)),
        ("Output", (FORMAT, OUT, SORT, CHOSEN, RUNS, CONFIG_DIR)),
    ),
    examples=(
        "distill table",
        "distill table table=cifar100_same rows=kd,zscore_kd --format html --out same.html",
        "distill table loss=kd recipe.epochs=240 --format latex --out kd.tex",
        "distill table --runs --columns method,loss.temperature,seed,last --sort -last --out kd.csv",
    ),
    exit_codes="0 done, also when there is nothing to show; 2 the command was refused",
    dotted=ANY,
)


def run(line: CommandLine) -> int:
    """Show the table of runs, or the published table with runs in its cells; return the exit code."""
    gc.disable()  # with thousands of records the collector takes a third of the time, and they are needed to the end
    try:
        return _show(line)
    finally:
        gc.enable()


def _show(line: CommandLine) -> int:
    request = read_table(line)
    if request is not None:
        return _published(line, request)
    selection = select(line)
    if not selection.chosen:
        print(escaped(selection.nothing()))
        return FINISHED
    try:
        # a filter on the loss must not remove the baseline that differences are taken to
        candidates = selection.without("loss", "teacher")
        table = build(selection.chosen, candidates=candidates, baseline=line.options.get(BASELINE.name))
    except UnknownBaseline as error:
        raise Refused([str(error)]) from error
    if not table.rows:
        print(f"no finished run yet: {table.not_shown}; `distill ls` lists them")
        return FINISHED
    show(table.of_runs() if RUNS.name in line.options else table.content(cost=COST.name in line.options), line)
    return FINISHED


def _published(line: CommandLine, request: TableRequest) -> int:
    baseline = line.options.get(BASELINE.name)
    rows = [row.key for row in request.table.rows]
    if baseline is not None and baseline not in rows:
        line.fault(f"--baseline {baseline!r} is no row of table={request.table.name}{nearest(baseline, rows)}")
    for option in (COST, RUNS, SORT, CHOSEN):
        if option.name in line.options:
            line.fault(f"{option.name} cannot be combined with table=: leave one of them out", of=option.name)
    selection = select(line)
    if baseline is not None:
        whole, shown = (
            replace(each, baseline_row=baseline, baseline_column=None) for each in (request.table, request.shown)
        )
        request = replace(request, table=whole, shown=shown)
    chosen = {record.run_id for record in selection.chosen}
    show(content(measure(request, selection.records, line, chosen=chosen)), line)
    return FINISHED
