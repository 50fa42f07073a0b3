"""`distill table`: compare finished runs."""

from collections.abc import Sequence
from dataclasses import replace

from distill.cli import published
from distill.cli.grammar import (
    BASELINE,
    CONFIG_DIR,
    FINISHED,
    FORMAT,
    OUT,
    CommandLine,
    Option,
    UsageError,
    deliver,
    nearest,
    parse,
    run_verb,
    select,
)
from distill.tables import published_layouts
from distill.tables.cells import measure_table
from distill.tables.filters import FILTERS
from distill.tables.table import UnknownBaseline, build

COST = Option("--cost")
KEYS = (*published.KEYS, *FILTERS, "runs_dir")
OPTIONS = (FORMAT, BASELINE, OUT, COST, CONFIG_DIR)

HELP = """\
distill table [key=value ...] [--option ...]     compare finished runs

One row per configuration: its seeds are pooled; unlike teacher weights or precisions never are. The accuracy
after the last epoch counts. The best epoch has a column of its own, since it is chosen on the test set.

a published table, our runs beside its numbers
  table=cifar100_same  (imagenet, ablation, ...) rows=kd,zscore_kd columns=vgg13_vgg8    what of it
  seeds=4 (or 1,2,5)   wanted of each cell: what is missing comes with the command that trains it

which runs (a list means any of them)
  dataset=cifar100 student=resnet8 teacher=resnet20 loss=kd,zscore_kd recipe=cifar_short
  seed=1,2,3  precision=bf16
  loss.temperature=4  recipe.epochs=10           any value of a run's config.yaml, by its path
  runs_dir=DIR                                   where runs lie (default: DISTILL_RUNS, or runs)

compared with
  --baseline PRESET    difference to this row, with 95 % intervals: Welch's, and paired by seed (default: ce)
                       a row's full name works too: --baseline "kd (temperature=2)"; with table=, one of its rows

how it looks
  --cost               seconds of an epoch and peak memory (of the device; on a CPU of the whole process) too
  --format terminal|markdown|latex|csv|json|html (default: terminal; plain lines when piped)
  --out FILE           write there instead; FILE.md .tex .csv .json .html choose their format

examples
  distill table
  distill table table=cifar100_same rows=kd,zscore_kd --format html --out same.html
  distill table loss=kd recipe.epochs=240 --format latex --out kd.tex

exit codes: 0 done, also when there is nothing to show; 2 refused
"""


def main(argv: list[str]) -> int:
    """Run `distill table` with the words after the verb; return the exit code."""
    return run_verb(argv, _table, help_text=HELP)


def _table(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS, dotted=True)
    asked = published.read_asked(line)
    if asked is not None:
        return _published(line, asked)
    selection = select(_of_runs(line))
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    try:
        # a filter on the loss must not take away the baseline that its differences are taken to
        candidates = selection.without("loss", "teacher")
        table = build(selection.chosen, candidates=candidates, baseline=line.options.get("--baseline"))
    except UnknownBaseline as error:
        raise UsageError([str(error)]) from error
    if not table.rows:
        print(f"no finished run yet: {table.not_shown}; `distill ls` lists them")
        return FINISHED
    deliver(table.content(cost="--cost" in line.options), line)
    return FINISHED


def _of_runs(line: CommandLine) -> CommandLine:
    """The line without what chooses from a published table: the rest are filters on runs."""
    return replace(line, pairs={key: value for key, value in line.pairs.items() if key not in published.KEYS})


def _published(line: CommandLine, asked: published.Asked) -> int:
    """Our runs in the cells of a published table."""
    baseline = line.options.get("--baseline")
    rows = [row.key for row in asked.table.rows]
    if baseline is not None and baseline not in rows:
        line.faults.append(f"--baseline {baseline!r} is no row of table={asked.table.name}: {nearest(baseline, rows)}")
    if "--cost" in line.options:
        line.faults.append("--cost goes without table=: leave one of them out")
    selection = select(_of_runs(line))
    whole, shown = asked.table, asked.shown
    if baseline is not None:
        whole = replace(whole, baseline_row=baseline, baseline_column=None)
        shown = replace(shown, baseline_row=baseline, baseline_column=None)
    try:
        measured = measure_table(
            whole,
            selection.chosen,
            shown=shown,
            seeds=asked.seeds,
            runs_dir=line.pairs.get("runs_dir"),
            config_dir=line.config_dir,
        )
    except ValueError as error:
        raise UsageError([f"table={whole.name}: {error}"]) from error
    deliver(published_layouts.content(measured), line)
    return FINISHED
