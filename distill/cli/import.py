"""`distill import`: weights from elsewhere become a finished run; a folder of runs is added to the user's own."""

import sys
from pathlib import Path

from distill.cli.arguments import (
    BUSY,
    CONFIG_DIR,
    DEVICE,
    FAILED,
    FINISHED,
    NEW_PLACES,
    OWN,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import data_places
from distill.runs.escapes import escaped

FILE, STATE = "file", "state"
VERB = Verb(
    name="import",
    usage=("FILE student=NAME dataset=NAME [KEY=VALUE ...]", "DIR [runs_dir=DIR]"),
    about="""\
Add weights (FILE) or finished runs (DIR) from elsewhere to your runs.

FILE holds weights: a checkpoint of RepDistiller, of mdistiller or of code based on them, a PyTorch state dict (.pth,
.pt, also PyTorch's format before 1.6) or safetensors. Only tensors and plain values are read; no code in a file is
executed. Names and shapes must match the network. The accuracy is measured if the data are there; otherwise the
accuracy stated in the file is recorded, and marked as claimed. The result is a finished run: it can be listed,
evaluated, and used as a teacher with `distill train teacher.run=ID`. Its id is the digest of its weights, so importing
a file twice changes nothing.

If FILE is a student.safetensors in a folder with the config.yaml and result.json of its run, that run is restored under
its own id; leave out student= and dataset=. Weights in float16 are accepted. A later run with teacher=NAME and the same
data and recipe uses the restored run.

DIR holds runs: a runs_dir of another machine, or files written by `distill export --results`. Each run is checked (id,
records, digest of the weights) and copied; nothing is overwritten; a run that fails its check is named and left out. A
run without weights appears in lists and tables. It cannot be used as a teacher or evaluated until its weights are
imported.""",
    sections=(
        (
            "Network and data",
            (
                Argument(FILE, "FILE"),
                Argument(
                    "student", "NAME", "a student preset (`distill models` lists them), or timm with student.name=NAME"
                ),
                Argument(
                    "dataset",
                    "NAME",
                    "the data that the network was trained on; dataset.KEY=VALUE as in `distill train`",
                ),
                Argument(
                    STATE, "KEY", "which weights of the file, where it holds several: state_dict_ema, for example"
                ),
                *NEW_PLACES,
                CONFIG_DIR,
            ),
        ),
        ("Run", (RUNS_DIR, DEVICE)),
        (
            "Published weights need no import",
            (
                "distill train dataset=NAME student=NAME teacher=timm teacher.network.name=NAME "
                "teacher.pretrained=true",
                "distill train dataset=NAME student=timm student.name=NAME student.pretrained=true loss=ce",
                "distill train dataset=NAME student=torchvision student.name=NAME student.weights=IMAGENET1K_V1 "
                "loss=ce",
            ),
        ),
    ),
    examples=(
        "distill import resnet56_vanilla/ckpt_epoch_240.pth student=resnet56 dataset=cifar100 dataset.npz=cifar100.npz",
        "distill import student_best student=resnet8x4 dataset=cifar100",
        "distill import results/cifar100_small/runs/resnet20-cross_entropy-s0-67078f4ee682/student.safetensors",
        "distill import results/cifar100_small/runs",
    ),
    exit_codes="0 done, or already there; 1 damaged, different from a run here, or not writable; 2 the command was\n"
    "refused; 3 another process is working on the run",
    dotted=("student", "dataset"),
    positional=FILE,
)


def run(line: CommandLine) -> int:
    """Import the file or the folder; return the exit code."""
    line.require(FILE, "import needs a file: distill import FILE student=NAME dataset=NAME; or distill import DIR")
    if line.pairs.get(FILE) == "":  # Path("") would be the current folder
        line.fault("the name of the file is empty (an unset variable?): name a file of weights, or a folder", of=FILE)
    if not line.pairs.get(FILE):
        line.check()

    path = Path(line.pairs[FILE])
    if path.is_dir():
        return _import_folder(line, path)
    _import_file(line, path)
    return FINISHED


def _import_folder(line: CommandLine, folder: Path) -> int:
    from distill.exchange.folders import FAILURES, HELD, import_folder

    for name in [key for key in line.pairs if key not in (FILE, RUNS_DIR.name)]:
        line.fault(f"{name}= is for a file of weights; {folder} is a folder of runs: leave it out", of=name)
    for name in line.options:
        line.fault(f"{name} is for a file of weights: leave it out", of=name)
    line.check()
    outcomes = import_folder(folder, line.runs_dir, say=_say, warn=_warn)
    if any(outcomes[failure] for failure in FAILURES):
        return FAILED
    return BUSY if outcomes[HELD] else FINISHED


def _import_file(line: CommandLine, path: Path) -> None:
    from distill.config.build import usable_device
    from distill.exchange.restore import has_run, read_run_of, restore
    from distill.exchange.weights import compose_parts, import_weights
    from distill.runs.foreign import UnreadableError, is_safetensors, read_checkpoint

    places = data_places(line)
    parts, faults = compose_parts(line.pairs, places, config_dir=line.config_dir)
    line.faults += faults
    try:
        device = usable_device(line.pairs.get(DEVICE.name, "auto"), key=DEVICE.name)
    except ValueError as error:
        line.fault(str(error), of=DEVICE.name)
    if is_safetensors(path) and has_run(path):
        line.check()
        record, own = read_run_of(path, parts.nodes), line.pairs.get(OWN)
        restore(path, record, line.runs_dir, places=places, device=device, own=own, say=_say)
        return
    if OWN not in line.pairs:
        line.require("student", "import needs student=NAME: resnet56, for example; `distill models` lists them")
    line.require("dataset", "import needs dataset=NAME: cifar100, for example")
    try:
        checkpoint = read_checkpoint(path, state=line.pairs.get(STATE))
    except UnreadableError as error:
        line.fault(str(error), of=FILE)
    line.check()
    import_weights(checkpoint, parts, line.runs_dir, data_needed=bool(places), device=device, say=_say, warn=_warn)


def _say(sentence: str) -> None:
    print(escaped(sentence), flush=True)


def _warn(sentence: str) -> None:
    print(escaped(sentence), file=sys.stderr, flush=True)
