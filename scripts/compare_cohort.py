"""A sweep by the cohort launcher against the same sweep run by run, side by side in process CPU time.

    python scripts/compare_cohort.py --npz cifar100.npz [--teacher-run FOLDER] [--rounds N] [--images N] [--epochs N]

16 students resnet8, a grid of temperature and alpha, under a live resnet56 on 5,000 training images for 2 epochs, each
epoch evaluated on 1,000 held-out images (CIFAR-100's own proportion). Both commands are `distill train -m` as a person
types them, each in a process of its own with a fresh runs_dir; every second round takes them in the other order. What a
process costs is its CPU time, start and imports included. The teacher is a finished run: `--teacher-run`, or one epoch
of training before anything is counted. Both stores must hold the same runs with the same weights, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

from distill.data.resident import num_views
from distill.runs.store import scan

TEMPERATURES, ALPHAS = (1, 2, 4, 8), (0.3, 0.5, 0.7, 0.9)
SINGLE, COHORT = "one by one", "cohort"
PAD, FLIP = 4, True  # CIFAR-100's augmentation


def distill(words: list[str]) -> float:
    """Run `distill` on one thread and return the CPU seconds of its process, user and system."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "distill", *words]
    process = os.spawnve(os.P_NOWAIT, sys.executable, command, environment)
    _, status, usage = os.wait4(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"exit code {code} of: distill {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime


def train_teacher(name: str, data: list[str], folder: Path) -> Path:
    """One epoch of the teacher: its weights do not change what a forward costs."""
    recipe = ["recipe=cifar_short", "recipe.epochs=1"]
    distill(["train", *data, f"student={name}", "loss=ce", "teacher=none", *recipe, f"runs_dir={folder}"])
    (record,) = scan(folder)
    return record.path


def sweep(options: argparse.Namespace, data: list[str], teacher: Path) -> list[str]:
    """The words of the sweep, without its launcher and store."""
    values = {"loss.temperature": TEMPERATURES[: options.grid], "loss.alpha": ALPHAS[: options.grid]}
    grid = [f"{key}={','.join(map(str, each))}" for key, each in values.items()]
    taught = [f"student={options.student}", f"teacher.run={teacher}", "teacher.source=live"]
    recipe = ["recipe=cifar_short", f"recipe.epochs={options.epochs}", "engine.threads=1"]
    return ["train", "-m", *data, "loss=kd", *taught, *recipe, *grid]


def weights(store: Path) -> dict[str, str]:
    """The digest of every finished run's weights by its id."""
    records = [record for record in scan(store) if record.status == "finished"]
    return {r.run_id: hashlib.sha256((r.path / "student.safetensors").read_bytes()).hexdigest() for r in records}


def measure(words: list[str], rounds: int, scratch: Path) -> dict[str, list[float]]:
    """CPU seconds of both ways in every round."""
    seconds: dict[str, list[float]] = {SINGLE: [], COHORT: []}
    launchers = {SINGLE: [], COHORT: ["hydra/launcher=cohort"]}
    for number in range(rounds):
        stores = {way: scratch / f"{number}-{way.replace(' ', '-')}" for way in seconds}
        for way in [SINGLE, COHORT][:: -1 if number % 2 else 1]:
            seconds[way].append(distill([*words, *launchers[way], f"runs_dir={stores[way]}"]))
            print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} s of CPU time", flush=True)
        found = {way: weights(store) for way, store in stores.items()}
        if not found[SINGLE] or found[SINGLE] != found[COHORT]:
            raise SystemExit("the two stores differ: nothing is compared")
        print(f"both have the same {len(found[SINGLE])} runs with the same weights", flush=True)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; `arguments` are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", help="CIFAR-100 as an .npz (default: 'data' in this folder, as torchvision lays it)")
    parser.add_argument("--synthetic", action="store_true", help="generated images: to try this script out")
    parser.add_argument("--teacher-run", type=Path, help="the folder of a finished teacher on this data")
    parser.add_argument("--teacher", default="resnet56", help="the teacher trained otherwise (default resnet56)")
    parser.add_argument("--student", default="resnet8", help="default resnet8")
    parser.add_argument("--images", type=int, default=5000, help="training images (default 5000)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs (default 2)")
    parser.add_argument("--grid", type=int, default=4, help="temperatures and alphas, each (default 4: 16 students)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds (default 1)")
    options = parser.parse_args(arguments)

    held = max(1, options.images // 5)
    if options.synthetic:
        data = ["dataset=synthetic", f"dataset.train_size={options.images + held}", f"dataset.holdout={held}"]
    else:
        data = ["dataset=cifar100", f"dataset.limit={options.images + held}", f"dataset.holdout={held}"]
        data += [f"dataset.npz={options.npz}"] if options.npz else []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        teacher = (options.teacher_run or train_teacher(options.teacher, data, scratch / "teacher")).resolve()
        # the teacher's accuracy is measured once and noted with its run: not here or there, but before
        distill(
            [
                *sweep(argparse.Namespace(**{**vars(options), "grid": 1, "epochs": 1}), data, teacher),
                f"runs_dir={scratch / 'first'}",
            ]
        )
        seconds = measure(sweep(options, data, teacher), options.rounds, scratch)
    ratios = [one / many for one, many in zip(seconds[SINGLE], seconds[COHORT], strict=True)]
    students, views = options.grid**2, num_views(pad=PAD, flip=FLIP)
    print(
        f"{students} students {options.student}, {options.images:,} images, {options.epochs} epochs: the cohort takes "
        f"{statistics.median(ratios):.2f} times less CPU time (median of {len(ratios)}, "
        f"{min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(
        f"a table takes {views} forwards an image to build: it pays from {-(-views // students)} epochs on where the "
        f"{students} students are trained one by one, from {views} on in one cohort, which runs the live teacher once"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
