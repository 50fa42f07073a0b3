"""`distill report`: figures, numbers and a page of a student held against others, of a published table, of a sweep."""

import math
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from distill.cli import import_from_here, published
from distill.cli.chosen import changed_places
from distill.cli.grammar import (
    CONFIG_DIR,
    FINISHED,
    CommandLine,
    Option,
    UsageError,
    nearest,
    parse,
    run_verb,
)
from distill.cli.report_sweep import report_sweep
from distill.cli.report_table import report_table
from distill.report.page import PAGE, check_folder
from distill.report.runs import teacher_of, unlike_images
from distill.runs.files import StorageError
from distill.runs.store import RunRecord, finished_run, scan
from distill.tables.filters import Selection

HELP = """\
distill report run=ID|PATH [against=ID,...] [key=value ...] [--option ...]     figures and a page of a student
distill report table=NAME [rows=] [columns=] [seeds=] [--option ...]          ... of a published table and our runs
distill report sweep=NAME [key=value ...] [--option ...]                      ... of the values that a sweep tried

Writes index.html, one page that needs no network, and of every figure its drawing (SVG) and its numbers (JSON):
curves, agreement with the teacher, calibration, softmax under temperature, logits, errors by class and confusion,
embeddings, gradients, differences of configuration, provenance. The teacher is found from the run's record. Networks
are asked on the run's evaluation images in fp32; what lacks weights or data is left out, and the page says so.

which runs
  run=ID|PATH               a finished run: the head of its id, its folder's name, or the folder
  against=ID,PATH,...       other finished runs to hold it against, the baseline first
  table=NAME                instead: a published table with our runs in its cells, drawn; as in distill table
  sweep=NAME                instead: the finished runs of a sweep (temperature, tau_weight, optuna, ...): accuracy over
                            the values tried, what held-out images chose, and what that reaches on the test set;
                            dataset= student= teacher= loss= recipe= loss.temperature= ... as in distill table
  runs_dir=DIR              where runs lie (default: DISTILL_RUNS, or runs)

how
  accuracy=40,45            levels of accuracy in percent, whose first epochs are listed (default: shares of the
                            last accuracy of the first run in against)
  engine.device=auto|cpu|cuda  (default: auto, CUDA where there is one)

where the data lie, if elsewhere than when it was trained
  dataset.npz=FILE  dataset.root=DIR  dataset.download=true

a network of your own is built only when you name it
  student._target_=package.Class

where it goes
  --out DIR                 (default: report/ with the name of the run's folder, of the table, or sweep-NAME); an older
                            report of the same is replaced, any other folder that holds something is refused
  --config-dir DIR          tables and presets of your own

examples
  distill report run=3f2a against=77b0
  distill report table=cifar100_small
  distill report sweep=tau_weight --out tuned
  distill report run=runs/resnet8-zscore_kd-s1-3f2ab1c09d7e against=77b0,91cc dataset.npz=cifar100.npz --out zscore

exit codes: 0 done, also when there are no runs; 1 damaged; 2 refused
"""

OWN = "student._target_"
PLACES = ("dataset.npz", "dataset.root", "dataset.download")
KEYS = ("run", "against", "sweep", *published.KEYS, "runs_dir", "accuracy", "engine.device", *PLACES, OWN)
OUT = Option("--out", metavar="DIR")
OPTIONS = (OUT, CONFIG_DIR)
CHOICES = {"dataset.download": ("true", "false")}
DEVICES = ("auto", "cpu", "cuda")  # for completion: torch knows more
EXTRA = 'pip install "distill[report]"'


def main(argv: list[str]) -> int:
    """Run `distill report` with the words after the verb; return the exit code."""
    return run_verb(argv, _report, help_text=HELP)


def _report(argv: Sequence[str]) -> int:
    undrawn = [f"report draws with matplotlib, which is not installed: {EXTRA}"] if not find_spec("matplotlib") else []
    if any(word.startswith("sweep=") for word in argv):
        return report_sweep(argv, OPTIONS, undrawn)
    line = _read(argv)
    line.faults += undrawn
    if "table" in line.pairs:
        print(f"wrote {report_table(line) / PAGE}")
        return FINISHED
    targets = _targets(line)
    if "run" in line.pairs and not _holds_runs(line):
        line.check()
        print(Selection(line.runs_dir, (), ()).nothing())
        return FINISHED
    runs = _runs(line)
    folder = line.out or Path("report", runs[0].path.resolve().name if runs else "")
    if runs:
        try:
            check_folder(folder, f"run {runs[0].run_id}")
        except ValueError as error:
            line.faults.append(str(error))
    line.check()
    teacher, gap = teacher_of(runs[0], line.runs_dir)
    everyone = [*runs, *([teacher] if teacher else [])]
    places = {record.run_id: changed_places(line, record) for record in everyone}
    if OWN in line.pairs:
        import_from_here()

    from distill.config.build import Refused
    from distill.config.rebuild import Untrusted
    from distill.report.measuring import report_on  # imports torch

    try:
        missing = report_on(
            runs,
            teacher,
            folder,
            places=places,
            insist=any(key in line.pairs for key in PLACES),
            own=line.pairs.get(OWN),
            device=line.pairs.get("engine.device", "auto"),
            missing=(gap,) if gap else (),
            targets=targets,
        )
    except Refused as error:
        raise UsageError(error.faults) from error
    except Untrusted as error:
        raise UsageError([str(error)]) from error
    except ValueError as error:
        raise UsageError(str(error).splitlines()) from error
    for sentence in missing:
        print(f"left out: {sentence}")
    print(f"wrote {folder / PAGE}")
    return FINISHED


def _read(argv: Sequence[str]) -> CommandLine:
    line = parse(argv, keys=KEYS, options=OPTIONS)
    if not {"run", "table"} & line.pairs.keys() and not any("run=" in fault for fault in line.faults):
        line.faults.append("report needs a subject: add run=ID (`distill ls` lists them), table=NAME or sweep=NAME")
    if "table" not in line.pairs:
        line.faults += [
            f"{key}= goes with table=: add table=NAME" for key in ("rows", "columns", "seeds") if key in line.pairs
        ]
    for key, choices in CHOICES.items():
        if key in line.pairs and line.pairs[key] not in choices:
            line.faults.append(f"{key} cannot be {line.pairs[key]!r}: {nearest(line.pairs[key], choices)}")
    if "dataset.npz" in line.pairs and "dataset.root" in line.pairs:
        line.faults.append("dataset.npz and dataset.root name two places: keep one")
    return line


def _targets(line: CommandLine) -> tuple[float, ...]:
    """The levels of `accuracy=`; a fault where one is no percentage."""
    found = []
    for text in line.pairs.get("accuracy", "").split(",") if "accuracy" in line.pairs else []:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value <= 100:
            line.faults.append(f"accuracy must be percent above 0 and at most 100, got {text!r}: write accuracy=40,45")
        found.append(value)
    return tuple(found)


def _runs(line: CommandLine) -> list[RunRecord]:
    """The run and those it is held against; faults are noted. StorageError where one is damaged."""
    words = [("run", line.pairs[key]) for key in ("run",) if key in line.pairs]
    words += [("against", text) for text in line.pairs.get("against", "").split(",") if text]
    found: list[RunRecord] = []
    for key, text in words:
        try:
            record = finished_run(line.runs_dir, text, weights=False)
        except ValueError as error:
            line.faults.append(str(error))
            continue
        if record.run_id in {each.run_id for each in found}:
            line.faults.append(f"{key}={text} is named twice, as the run {record.run_id}: name each run once")
        elif found and unlike_images(found[0], record):
            line.faults.append(
                f"{key}={text} was measured on other images than run={line.pairs['run']}: compare runs of one data set"
            )
        found.append(record)
    return found


def _holds_runs(line: CommandLine) -> bool:
    if os.sep in line.pairs["run"]:
        return True  # a path of its own, which may be wrong
    try:
        return bool(scan(line.runs_dir))
    except StorageError as error:
        raise UsageError([*line.faults, str(error)]) from error
