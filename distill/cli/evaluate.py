"""`distill evaluate`: measure a finished run's accuracy again."""

import sys

from distill.cli.arguments import (
    CONFIG_DIR,
    DEVICE,
    FAILED,
    FINISHED,
    FORMAT,
    OUT,
    OWN_NETWORK,
    PLACES,
    RUN,
    RUNS_DIR,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import data_places, find_finished, show

PRECISION = Argument("precision", help="default: the precision of the run", choices=("fp32", "bf16", "auto"))
VERB = Verb(
    name="evaluate",
    usage=("run=ID|PATH [KEY=VALUE ...] [--OPTION ...]",),
    about="""\
Measure the accuracy of a finished run again. Its network is rebuilt with its weights, whose digest is checked, and
evaluated on the images that the run was evaluated on: the test set, or its held-out training images. With the same
data and precision, the accuracy may differ from the one recorded after the last epoch by 0.1 points or two images,
whichever is more, and in bf16 by 0.3 points or 30 points divided by the square root of the number of images, whichever
is more. If it differs by more, the exit code is 1. Nothing is written to the run.""",
    sections=(
        ("Run", (RUN, RUNS_DIR)),
        ("Measurement", (PRECISION, DEVICE)),
        ("Data and code", (*PLACES, OWN_NETWORK, CONFIG_DIR)),
        ("Output", (FORMAT, OUT)),
    ),
    examples=(
        "distill evaluate run=3f2a",
        "distill evaluate run=runs/resnet8-kd-s1-3f2ab1c09d7e dataset.npz=cifar100.npz precision=bf16",
    ),
    exit_codes="0 done; 1 damaged files, or an accuracy that differs from the recorded one;\n2 the command was refused",
)


def run(line: CommandLine) -> int:
    """Measure the run and show the result; return the exit code."""
    line.require("run", "evaluate needs a run: add run=ID or run=PATH; `distill ls` lists them")
    line.check()
    record = find_finished(line)
    places = data_places(line, record)
    own = line.pairs.get(OWN_NETWORK.name)

    from distill.cli.evaluation import formats, measure

    device, precision = line.pairs.get(DEVICE.name, "auto"), line.pairs.get(PRECISION.name)
    measured = measure(record, device=device, precision=precision, places=places, own=own)
    show(formats(measured), line)
    if measured.agrees is not False:  # None: there is nothing to compare with
        return FINISHED
    print(
        f"{record.path} has {measured.accuracy:.2f} % but its record has {measured.recorded['accuracy']:.2f} %, with "
        "the same weights, data and precision: the code or the record has changed; delete the folder to train it again",
        file=sys.stderr,
    )
    return FAILED
