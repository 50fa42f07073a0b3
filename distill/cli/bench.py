"""`distill bench`: what training costs, against the field's own loop in the same process."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli import import_from_here
from distill.cli.arguments import (
    CONFIG_DIR,
    DEVICE,
    FAILED,
    FINISHED,
    FORMAT,
    OUT,
    Argument,
    CommandLine,
    Verb,
)
from distill.cli.lookup import show
from distill.config.faults import nearest

if TYPE_CHECKING:
    from distill.bench.settings import Settings

ROWS = (
    "data",
    "teacher",
    "student",
    "step",
    "compile",
    "cohort",
    "evaluation",
    "epoch",
    "memory",
    "work",
    "run",
    "table",
    "kernels",
)
OF_A_GPU = ("run", "table", "kernels")
EXPERIMENT = "cifar100/resnet20_resnet8"
COUNTS = {"rounds": 1, "steps": 1, "images": 100}  # at least
JSON = Argument("--json", "FILE", "write the JSON there too")
VERB = Verb(
    name="bench",
    usage=("[KEY=VALUE ...] [--OPTION ...]",),
    about="""\
Measure what training costs, as a ratio to the field's own loop. The peer follows the field's recipe: one PIL image at a
time through torchvision's transforms and a DataLoader (no workers on a CPU, two on a GPU), eager fp32 in NCHW, the
teacher unfolded and run for every student, loss and top-k read back every step, validation in batches of 64. Both sides
are measured in one process, in rounds of alternating order: CPU time on one thread, or CUDA events. Each figure depends
on equalities that are checked in the same run; if one fails, the figure is not shown. Images are generated.""",
    sections=(
        (
            "What is measured",
            (
                Argument("experiment", "NAME", "the pair and its recipe (default: cifar100/resnet20_resnet8)"),
                Argument(
                    "precision", help="ours (default: auto); the peer's is fp32", choices=("fp32", "bf16", "auto")
                ),
                Argument(
                    "rows",
                    "data,step,...",
                    "of data teacher student step compile cohort evaluation epoch memory work\nrun table kernels "
                    "(default: on a CPU all but the last three)",
                ),
                DEVICE,
                CONFIG_DIR,
                Argument("runs_dir"),
            ),
        ),
        (
            "How much (default: on a CPU 9 rounds of 4 steps, on a GPU 20 of 50; epochs of 2048 images)",
            (*map(Argument, COUNTS), "rounds=9  steps=4  images=2048"),
        ),
        ("Output", (FORMAT, OUT, JSON)),
    ),
    examples=(
        "distill bench",
        "distill bench rows=data,step --json bench.json",
        "distill bench experiment=cifar100/resnet32x4_resnet8x4 steps=2 precision=fp32",
    ),
    exit_codes="0 done; 1 a gate failed, or a row could not be measured; 2 the command was refused",
)


def run(line: CommandLine) -> int:
    """Measure and show the rows; return the exit code."""
    _check(line)
    line.check()
    import_from_here()

    from distill.bench.course import bench
    from distill.bench.pair import plan_pair
    from distill.cli.benching import views
    from distill.training.determinism import CUBLAS, WORKSPACE

    settings, gpu = _settings(line)
    plan = plan_pair(settings)
    names = asked_rows(line, gpu=gpu)
    if gpu:
        os.environ.setdefault(CUBLAS, WORKSPACE)  # it is read once, and a gate asks for repeatable kernels
    for sentence in plan.notes:
        note(sentence)
    found = bench(plan, settings, names, note=note)
    shown = views(found)
    if JSON.name in line.options:
        copy = replace(line, options={OUT.name: line.options[JSON.name], FORMAT.name: "json"})
        show(shown, copy)
    show(shown, line)
    return FINISHED if found.sound else FAILED


def note(text: str) -> None:
    """One line about what is being done."""
    print(text, file=sys.stderr, flush=True)


def _check(line: CommandLine) -> None:
    for key, least in COUNTS.items():
        text = line.pairs.get(key)
        if text is not None and not (re.fullmatch(r"\d{1,9}", text) and int(text) >= least):
            line.fault(f"{key} must be a whole number >= {least}, got {text!r}: change it")
    for name in line.pairs.get("rows", "").split(",") if "rows" in line.pairs else []:
        if name not in ROWS:
            line.fault(f"there is no row {name!r}{nearest(name, ROWS)}")
    if "," in line.pairs.get("experiment", ""):
        line.fault("experiment names several: choose one pair for a bench")
    json = line.options.get(JSON.name)
    if json is not None and (Path(json).is_dir() or not Path(json).parent.is_dir()):
        line.fault(f"--json must be a file in a folder that is there, got {json}: choose another FILE")


def asked_rows(line: CommandLine, *, gpu: bool) -> list[str]:
    """The rows to measure, in the order of the help."""
    given = line.pairs.get("rows")
    if given is None:
        return [name for name in ROWS if gpu or name not in OF_A_GPU]
    return [name for name in ROWS if name in given.split(",")]


def _settings(line: CommandLine) -> "tuple[Settings, bool]":
    """What is asked for, and whether it is measured on a GPU."""
    import torch

    from distill.bench.settings import ON_CPU, ON_GPU, Settings
    from distill.execution.teachers import EVALUATION_BATCH, TABLE_PIXELS

    device = line.pairs.get("engine.device", "auto")
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    counts = {key: int(line.pairs[key]) for key in COUNTS if key in line.pairs}
    sizes = replace(ON_GPU if gpu else ON_CPU, **counts)
    settings = Settings(
        experiment=line.pairs.get("experiment", EXPERIMENT),
        precision=line.pairs.get("precision", "auto"),
        device=device,
        config_dir=line.options.get(CONFIG_DIR.name),
        sizes=sizes,
        evaluation_batch=EVALUATION_BATCH,
        table_batch=TABLE_PIXELS["cuda" if gpu else "cpu"] // 32**2,
    )
    return settings, gpu
