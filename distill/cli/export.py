"""`distill export`: a finished run's network as safetensors, ONNX or torch.export; or runs as small files."""

import sys
from pathlib import Path

from distill.cli.arguments import (
    ANY,
    CONFIG_DIR,
    FAILED,
    FILTERS,
    FINISHED,
    OWN_NETWORK,
    PLACES,
    RUN,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import data_places, find_finished, select
from distill.config.faults import Refused
from distill.exchange.folder import FORMS, INSTALL, check_folder
from distill.exchange.results import export_results, with_teachers
from distill.runs.escapes import escaped
from distill.runs.store import averaged, size_of

ALL = "all"
WEIGHTS = "safetensors"
FORM = Argument("--format", help="default: every format whose packages are installed", choices=(*FORMS, ALL))
DTYPE = Argument("--dtype", help="fp16: store model.safetensors in half precision", choices=("fp32", "fp16"))
OF = Argument("--weights", help="ema: the averaged weights of a run with recipe.ema", choices=("last", "ema"))
RESULTS = Argument("--results")
OUT = Argument(
    "--out", "DIR", "default: exports/ with the name of the run's folder. An older export of the same run\n"
    "is replaced; any other folder that is not empty is refused"
)  # fmt: skip
OF_RUN = (RUN, RUNS_DIR, *PLACES, OWN_NETWORK)
VERB = Verb(
    name="export",
    usage=("run=ID|PATH [KEY=VALUE ...] [--OPTION ...]", "--results [KEY=VALUE ...] [--out DIR]"),
    about="""\
Write the network of a finished run into a folder: one file per format, README.md (a model card, with the lines that
load the network), export.json, and the run's config.yaml and result.json, so that `distill import` restores the run.
Each file is read back and compared with the run's network on 256 images of its evaluation set (synthetic ones if the
data are missing); a file that differs is removed (exit code 1). In Python, distill.load("ID") loads the network.""",
    sections=(
        ("Run", (RUN, RUNS_DIR)),
        (
            "Files",
            (
                FORM,
                "    safetensors: the weights, model.safetensors; onnx and torch: programs for any batch size, as",
                "    model.onnx and model.pt2",
                DTYPE,
                OF,
                OUT,
            ),
        ),
        ("Data and code", (*PLACES, OWN_NETWORK, CONFIG_DIR)),
        (
            "With --results",
            (
                RESULTS,
                *(item for item in FILTERS if isinstance(item, Argument)),
                "Writes config, metrics, timing, provenance and result of finished runs and their teachers, without",
                "weights, into --out DIR (default: results): small files for a git repository. Keys such as loss=kd or",
                "recipe.epochs=10 choose the runs, as in `distill ls`. `distill table runs_dir=DIR` makes the table of",
                "these files; `distill import DIR` adds them to other runs.",
            ),
        ),
    ),
    examples=(
        "distill export run=3f2a",
        "distill export run=runs/resnet8-kd-s1-3f2ab1c09d7e dataset.npz=cifar100.npz --format onnx --out resnet8",
        "distill export run=3f2a --format safetensors --dtype fp16",
        "distill export --results dataset=cifar100 student=resnet8 --out results/resnet8",
    ),
    exit_codes="0 done, or no runs for --results; 1 damaged files, or a file that differs; 2 the command was refused",
    dotted=ANY,
)


def run(line: CommandLine) -> int:
    """Export a run, or the records of several; return the exit code."""
    if RESULTS.name in line.options:
        return _export_results(line)
    of_run = [argument.name for argument in OF_RUN]
    line.allow(of_run, known=VERB.keys, otherwise="chooses runs for --results: add --results, or leave it out")
    line.require("run", "export needs a run: add run=ID or run=PATH; `distill ls` lists them")
    forms, left_out = _forms(line)
    line.check()
    record = find_finished(line)
    places = data_places(line, record)
    folder = line.out or Path("exports", record.path.resolve().name)
    try:
        if line.options.get(OF.name) == "ema":
            record, folder = averaged(record), line.out or folder.with_name(f"{folder.name}-ema")
        check_folder(folder, record.run_id)
    except ValueError as error:
        raise Refused([str(error)]) from error
    own = line.pairs.get(OWN_NETWORK.name)

    from distill.config.rebuild import Untrusted
    from distill.exchange.export import export_run

    half = line.options.get(DTYPE.name) == "fp16"
    try:
        exported = export_run(record, folder, forms=forms, half=half, places=places, own=own, note=_note)
    except Untrusted as error:
        raise Refused([str(error)]) from error
    except ValueError as error:
        raise Refused(str(error).splitlines()) from error
    if exported.folder is not None:
        print(escaped(f"{record.path.name} is exported to {exported.folder}, checked on {exported.checked_on}"))
        if exported.reason:
            print(escaped(f"synthetic images, because {exported.reason}"))
        for model in exported.written:
            print(f"{model.file}  {size_of(model.size)}  {model.title}; {model.agreement}")
        if exported.rounded is not None:
            print(exported.rounded)
    for sentence in left_out:
        print(sentence)
    for failure in exported.failures:
        print(escaped(failure), file=sys.stderr)
    return FAILED if exported.failures else FINISHED


def _export_results(line: CommandLine) -> int:
    for name in (RUN.name, FORM.name, DTYPE.name, OF.name):
        if name in line.pairs or name in line.options:
            line.fault(f"{name} does not go with --results, which writes records of runs: leave it out", of=name)
    selection = select(line)
    if not selection.chosen:
        print(escaped(selection.nothing()))
        return FINISHED
    folder = line.out or Path("results")
    chosen = with_teachers(selection.chosen, selection.records)
    try:
        recorded = export_results(chosen, folder)
    except ValueError as error:
        raise Refused([str(error)]) from error
    there = f", {len(recorded.same)} there already" if recorded.same else ""
    size = size_of(recorded.size)
    print(f"{len(recorded.written)} runs written to {folder}{there}; {size} in all, without weights")
    if recorded.left_out:
        print("left out: " + ", ".join(f"{count} {status}" for status, count in recorded.left_out.items()))
    for sentence in recorded.damaged:
        print(sentence, file=sys.stderr)
    return FAILED if recorded.damaged else FINISHED


def _note(step: str) -> None:
    if sys.stderr.isatty():  # for a person who waits; a log needs only the outcome
        print(f"{step} ...", file=sys.stderr)


def _forms(line: CommandLine) -> tuple[list[str], list[str]]:
    """The formats to write, and a sentence for each that lacks a package; a fault if the command named that one."""
    named = line.options.get(FORM.name)
    wanted = [name for name in FORMS if named in (None, ALL, name)]
    missing = {name: FORMS[name].missing for name in wanted if FORMS[name].missing}
    reasons = [f"{FORMS[name].file} needs {' and '.join(packages)}: {INSTALL}" for name, packages in missing.items()]
    if named is not None:
        for reason in reasons:
            line.fault(reason, of=FORM.name)
    if named not in (None, ALL, WEIGHTS) and DTYPE.name in line.options:
        sentence = f"--dtype is the type of the weights in {FORMS[WEIGHTS].file}: add --format {WEIGHTS}"
        line.fault(sentence, of=DTYPE.name)
    return [name for name in wanted if name not in missing], [f"left out: {reason}" for reason in reasons]
