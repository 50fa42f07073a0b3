"""What training costs, as a ratio to the field's own loop.

    python -m scripts.bench [key=value ...] [--json FILE]     (in the checkout; `make bench` runs it)

The peer is written from the field's recipe: one PIL image at a time through torchvision's transforms and a DataLoader
(no workers on a CPU, two on a GPU), eager fp32 in NCHW, the unfolded teacher run for every student, loss and top-k
read back every step, validation in batches of 64. Both sides are measured in one process, in rounds of alternating
order: CPU time on one thread, or CUDA events. A figure is shown only if our losses (or evaluations) equal the peer's in
the same run. Images are generated: nothing is downloaded.

  experiment=NAME           the pair and its recipe (default: cifar100/resnet20_resnet8)
  precision=fp32|bf16|auto  ours (default: auto, bf16 where the hardware multiplies it); the peer's is fp32
  rows=data,step,...        of data teacher student step compile cohort evaluation epoch, on a GPU kernels, on a CPU
                            processes (two of them), and with photographs=DIR loader and photographs (default: these);
                            captured and lanes: steps without a peer, and their graph nodes
  photographs=DIR           a folder with train/CLASS and val/CLASS, of five classes at least
  workers=N                 of the loader row: N processes of the peer's against N threads, in wall time (default: 0,
                            one thread on both sides, in CPU time)
  engine.device=auto|cpu|cuda
  rounds=9 steps=4 images=2048   (a GPU's defaults: 20 rounds of 50 steps)
  --config-dir DIR          experiments of your own in DIR/experiment
  --json FILE               write every round there too

exit codes: 0 done; 1 a gate failed, or a row could not be measured; 2 refused
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from distill.config.faults import Refused
from distill.execution.teachers import evaluation_batch
from distill.training.device import CUBLAS, WORKSPACE
from scripts.bench import photographs, processes, rows
from scripts.bench.gates import GATES
from scripts.bench.lab import ON_CPU, ON_GPU, SIZE, Settings, plan_pair
from scripts.bench.report import bench, document, text

ROWS = {**rows.ROWS, **photographs.ROWS, **processes.ROWS}
ROWS["kernels"] = ROWS.pop("kernels")  # last: its profiler slows down what follows
DEFAULTS = {
    "experiment": "cifar100/resnet20_resnet8",
    "precision": "auto",
    "rows": ",".join(name for name in ROWS if name not in ("captured", "lanes")),
    "engine.device": "auto",
    "photographs": "",
}
SIZES = ("rounds", "steps", "images")
COUNTS = {"rounds": 1, "steps": 1, "images": 100, "workers": 0}  # at least


def main(argv: Sequence[str]) -> int:
    """Run the bench with these words; return the exit code."""
    parser = argparse.ArgumentParser("bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("pairs", nargs="*", metavar="key=value")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--config-dir")
    options = parser.parse_intermixed_args(argv)  # words and options in any order
    values = dict(DEFAULTS)
    for word in options.pairs:
        key, equals, value = word.partition("=")
        if not equals or key not in {*DEFAULTS, *COUNTS}:
            parser.error(f"{word} is not one of {', '.join(f'{key}=' for key in (*DEFAULTS, *COUNTS))}")
        if key in COUNTS and not (value.isdecimal() and int(value) >= COUNTS[key]):
            parser.error(f"{key} must be a whole number >= {COUNTS[key]}, got {value!r}")
        values[key] = value
    names = values["rows"].split(",")
    for name in names:
        if name not in ROWS:
            parser.error(f"there is no row {name!r}: choose from {', '.join(ROWS)}")
    if options.json is not None and (options.json.is_dir() or not options.json.parent.is_dir()):
        parser.error(f"--json must be a file in an existing folder, got {options.json}")

    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # as for the command
    device = values["engine.device"]
    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if "rows" not in {word.partition("=")[0] for word in options.pairs}:
        left_out = {"processes" if gpu else "kernels", *([] if values["photographs"] else photographs.ROWS)}
        names = [name for name in names if name not in left_out]
    settings = Settings(
        experiment=values["experiment"],
        precision=values["precision"],
        device=device,
        config_dir=options.config_dir,
        sizes=replace(ON_GPU if gpu else ON_CPU, **{key: int(values[key]) for key in SIZES if key in values}),
        evaluation_batch=evaluation_batch(torch.device("cuda" if gpu else "cpu"), SIZE),
        photographs=values["photographs"] or None,
        workers=int(values.get("workers", 0)),
    )
    try:
        plan = plan_pair(settings)
    except Refused as refused:
        print(*refused.sentences, sep="\n", file=sys.stderr)
        return 2
    if gpu:
        os.environ.setdefault(CUBLAS, WORKSPACE)  # read once, and a gate needs deterministic kernels
    found = bench(
        plan,
        settings,
        names,
        note=lambda line: print(line, file=sys.stderr, flush=True),
        rows=ROWS,
        gates={**GATES, **photographs.GATES, **processes.GATES},
    )
    if options.json is not None:
        options.json.write_text(json.dumps(document(found), indent=1) + "\n", encoding="utf-8")
    print(text(found))
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
