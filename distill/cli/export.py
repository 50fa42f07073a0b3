"""`distill export`: a finished run's network as safetensors, ONNX and torch.export."""

import sys
from collections.abc import Sequence
from pathlib import Path

from distill.cli import import_from_here
from distill.cli.chosen import changed_places, chosen_run
from distill.cli.grammar import (
    FAILED,
    FINISHED,
    CommandLine,
    Option,
    UsageError,
    nearest,
    parse,
    run_verb,
    select,
)
from distill.exchange.folder import FORMS, INSTALL, check_folder
from distill.exchange.results import export_results, with_teachers
from distill.runs.occupied import size_of
from distill.tables.filters import FILTERS, Selection

HELP = """\
distill export run=ID|PATH [key=value ...] [--option ...]     write a finished run as safetensors, ONNX, torch.export
distill export --results [key=value ...] [--out DIR]          write finished runs as small files, for a git repository

Writes a folder: the network in each form, README.md (a model card with the lines that load it), export.json, and
the run's config.yaml and result.json, so that `distill import` restores the run. Each model is read back and
compared with the run's network on 256 of its evaluation images, or on synthetic ones if the data are not at hand;
one that differs is left out, with exit code 1. In Python, distill.load("ID") gives the network.

which run
  run=ID|PATH               the head of its id, its folder's name, or the folder
  runs_dir=DIR              where runs lie (default: DISTILL_RUNS, or runs)

what is written
  --format safetensors|onnx|torch|all   (default: every one whose packages are installed)
                            model.safetensors, the state dict; model.onnx and model.pt2, programs for any batch size
  --dtype fp32|fp16         fp16 rounds the weights in model.safetensors (default: as the run stores them)
  --out DIR                 (default: exports/ with the name of the run's folder); an older export of the same run
                            is replaced in one step, any other folder that holds something is refused

where the data lie, if elsewhere than when it was trained
  dataset.npz=FILE  dataset.root=DIR  dataset.download=true

a network of your own is built only when you name it
  student._target_=package.Class

--results, runs as records
  config, metrics, timing, provenance and result of the finished runs that pass the filters (as in `distill table`),
  and of their teachers, into --out DIR (default: results), a folder each; no weights, no folders of this machine.
  `distill table runs_dir=DIR` makes the same table of them, `distill import DIR` takes them into a store.

examples
  distill export run=3f2a
  distill export run=runs/resnet8-kd-s1-3f2ab1c09d7e dataset.npz=cifar100.npz --format onnx --out resnet8
  distill export run=3f2a --format safetensors --dtype fp16
  distill export --results dataset=cifar100 student=resnet8 --out results/resnet8

exit codes: 0 done, also when there are no runs; 1 damaged, or a model that failed its check; 2 refused
"""

OWN = "student._target_"
KEYS = ("run", "runs_dir", "dataset.npz", "dataset.root", "dataset.download", OWN)
ALL = "all"
FORM = Option("--format", metavar="|".join((*FORMS, ALL)), choices=(*FORMS, ALL))
DTYPE = Option("--dtype", metavar="fp32|fp16", choices=("fp32", "fp16"))
OUT = Option("--out", metavar="DIR")
RESULTS = Option("--results")
OPTIONS = (FORM, DTYPE, OUT, RESULTS)
FILTER_KEYS = (*FILTERS, "runs_dir")  # of --results
CHOICES = {"dataset.download": ("true", "false")}
WEIGHTS = "safetensors"


def main(argv: list[str]) -> int:
    """Run `distill export` with the words after the verb; return the exit code."""
    work = _export_results if RESULTS.word in argv else _export
    return run_verb(argv, work, help_text=HELP)


def _export(argv: Sequence[str]) -> int:
    line = read(argv)
    forms, left_out = _forms(line)
    line.check()
    record = chosen_run(line)
    if record is None:
        print(Selection(line.runs_dir, (), ()).nothing())
        return FINISHED
    places = changed_places(line, record)
    folder = line.out or Path("exports", record.path.resolve().name)
    try:
        check_folder(folder, record.run_id)
    except ValueError as error:
        raise UsageError([str(error)]) from error
    if OWN in line.pairs:
        import_from_here()

    from distill.config.rebuild import Untrusted  # only now: torch takes seconds to import
    from distill.exchange.export import export_run

    half, own = line.options.get("--dtype") == "fp16", line.pairs.get(OWN)
    try:
        exported = export_run(record, folder, forms=forms, half=half, places=places, own=own, note=_note)
    except Untrusted as error:
        raise UsageError([str(error)]) from error
    except ValueError as error:
        raise UsageError(str(error).splitlines()) from error
    if exported.folder is not None:
        print(f"{record.path.name} is exported to {exported.folder}, checked on {exported.checked_on}")
        if exported.reason:
            print(f"synthetic images, because {exported.reason}")
        for model in exported.written:
            print(f"{model.file}  {size_of(model.size)}  {model.title}; {model.agreement}")
        if exported.rounded is not None:
            print(exported.rounded)
    for sentence in left_out:
        print(sentence)
    for failure in exported.failures:
        print(failure, file=sys.stderr)
    return FAILED if exported.failures else FINISHED


def _note(step: str) -> None:
    if sys.stderr.isatty():  # for a person who waits; a log needs only the outcome
        print(f"{step} ...", file=sys.stderr)


def _export_results(argv: Sequence[str]) -> int:
    line = read(argv)
    selection = select(line)
    if not selection.chosen:
        print(selection.nothing())
        return FINISHED
    folder = line.out or Path("results")
    chosen = with_teachers(selection.chosen, selection.records)
    try:
        recorded = export_results(chosen, folder)
    except ValueError as error:
        raise UsageError([str(error)]) from error
    there = f", {len(recorded.same)} there already" if recorded.same else ""
    size = size_of(recorded.size)
    print(f"{len(recorded.written)} runs written to {folder}{there}; {size} in all, without weights")
    if recorded.left_out:
        print("left out: " + ", ".join(f"{count} {status}" for status, count in recorded.left_out.items()))
    for sentence in recorded.damaged:
        print(sentence, file=sys.stderr)
    return FAILED if recorded.damaged else FINISHED


def read(argv: Sequence[str]) -> CommandLine:
    """The command line with its faults; with `--results` it takes filters, else a run."""
    if RESULTS.word in argv:
        filters = [word for word in argv if not word.startswith("run=")]
        line = parse(filters, keys=FILTER_KEYS, options=(OUT, RESULTS), dotted=True)
        if len(filters) < len(argv):
            line.faults.append("--results takes filters, no run=: distill export --results seed=1 loss=kd, say")
        return line
    line = parse(argv, keys=KEYS, options=OPTIONS)
    if "run" not in line.pairs and not any("run=" in fault for fault in line.faults):
        line.faults.append("export needs a run: add run=ID or run=PATH; `distill ls` lists them")
    for key, choices in CHOICES.items():
        if key in line.pairs and line.pairs[key] not in choices:
            line.faults.append(f"{key} cannot be {line.pairs[key]!r}: {nearest(line.pairs[key], choices)}")
    if "dataset.npz" in line.pairs and "dataset.root" in line.pairs:
        line.faults.append("dataset.npz and dataset.root name two places: keep one")
    return line


def _forms(line: CommandLine) -> tuple[list[str], list[str]]:
    """The forms to write, and a sentence for each that is left out because its packages are missing."""
    asked = line.form
    wanted = [name for name in FORMS if asked in (None, ALL, name)]
    missing = {name: FORMS[name].missing for name in wanted if FORMS[name].missing}
    needs = [f"{FORMS[name].file} needs {' and '.join(packages)}: {INSTALL}" for name, packages in missing.items()]
    if asked is not None:
        line.faults += needs
    if asked not in (None, ALL, WEIGHTS) and "--dtype" in line.options:
        line.faults.append(f"--dtype is the type of the weights in {FORMS[WEIGHTS].file}: add --format {WEIGHTS}")
    return [name for name in wanted if name not in missing], [f"left out: {sentence}" for sentence in needs]
