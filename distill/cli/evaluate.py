"""`distill evaluate`: measure a finished run's accuracy again."""

import sys
from collections.abc import Sequence

from distill.cli import import_from_here
from distill.cli.chosen import changed_places, chosen_run
from distill.cli.grammar import (
    FAILED,
    FINISHED,
    FORMAT,
    OUT,
    CommandLine,
    deliver,
    nearest,
    parse,
    run_verb,
)
from distill.tables.filters import Selection

HELP = """\
distill evaluate run=ID|PATH [key=value ...] [--option ...]     measure a finished run's accuracy again

Builds the run's network with its weights, whose digest is checked, and measures it on the run's own evaluation
split: the test set, or the images held out. On the same data in the same precision the accuracy must be the
recorded one of the last epoch, to 0.1 points or two images, whichever is more. Nothing in the store is written.

which run
  run=ID|PATH               the head of its id, its folder's name, or the folder
  runs_dir=DIR              where runs lie (default: DISTILL_RUNS, or runs)

how
  precision=fp32|bf16|auto  (default: the run's own)
  engine.device=auto|cpu|cuda  (default: auto, CUDA where there is one)

where the data lie, if elsewhere than when it was trained
  dataset.npz=FILE  dataset.root=DIR  dataset.download=true

a network of your own is built only when you name it
  student._target_=package.Class

how it looks
  --format terminal|markdown|latex|csv|json|html (default: terminal; plain lines when piped; json has all digits)
  --out FILE           write there instead; FILE.md .tex .csv .json .html choose their format

examples
  distill evaluate run=3f2a
  distill evaluate run=runs/resnet8-kd-s1-3f2ab1c09d7e dataset.npz=cifar100.npz precision=bf16

exit codes: 0 done, also when there are no runs; 1 damaged, or another accuracy than recorded; 2 refused
"""

OWN = "student._target_"
KEYS = ("run", "runs_dir", "precision", "engine.device", "dataset.npz", "dataset.root", "dataset.download", OWN)
OPTIONS = (FORMAT, OUT)
CHOICES = {"precision": ("fp32", "bf16", "auto"), "dataset.download": ("true", "false")}
DEVICES = ("auto", "cpu", "cuda")  # for completion: torch knows more, cuda:1 among them


def main(argv: list[str]) -> int:
    """Run `distill evaluate` with the words after the verb; return the exit code."""
    return run_verb(argv, _evaluate, help_text=HELP)


def _evaluate(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS)
    _check(line)
    record = chosen_run(line)
    if record is None:
        print(Selection(line.runs_dir, (), ()).nothing())
        return FINISHED
    places = changed_places(line, record)
    if OWN in line.pairs:
        import_from_here()

    from distill.cli.evaluation import measure, views

    device, precision = line.pairs.get("engine.device", "auto"), line.pairs.get("precision")
    measured = measure(record, device=device, precision=precision, places=places, own=line.pairs.get(OWN))
    deliver(views(measured), line)
    if measured.agrees is not False:  # None: there is nothing to compare with
        return FINISHED
    recorded = measured.recorded["accuracy"]
    print(
        f"{record.path} has {measured.accuracy:.2f} % where its record says {recorded:.2f} %, with the same weights, "
        "data and precision: the code or the record has changed since; delete its folder to train it again",
        file=sys.stderr,
    )
    return FAILED


def _check(line: CommandLine) -> None:
    if "run" not in line.pairs and not any("run=" in fault for fault in line.faults):
        line.faults.append("evaluate needs a run: add run=ID or run=PATH; `distill ls` lists them")
    for key, choices in CHOICES.items():
        if key in line.pairs and line.pairs[key] not in choices:
            line.faults.append(f"{key} cannot be {line.pairs[key]!r}: {nearest(line.pairs[key], choices)}")
    if "dataset.npz" in line.pairs and "dataset.root" in line.pairs:
        line.faults.append("dataset.npz and dataset.root name two places: keep one")
    line.check()
