"""`distill train`: check the whole command, then train what is not finished."""

import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from distill.cli.arguments import CONFIG_DIR, FAILED, FINISHED, Argument, CommandLine, Verb, exit_code
from distill.config import preset_files
from distill.runs.store import read_run
from distill.tables.values import natural_key

if TYPE_CHECKING:
    from distill.config.plan import RunPlan

GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
MULTIRUN = Argument("--multirun")
RETRY = Argument("--retry", help="also train runs that failed")
SHOW = Argument(
    "--cfg",
    help="print the configuration, the id and the status of each run, and stop (needs the data)",
    choices=("job",),
)


def preset_names(group: str, config_dir: Path | None) -> list[str]:
    """The presets of a group, shipped and the user's own, with numbers in their order."""
    return sorted(preset_files(group, config_dir), key=natural_key)


def _list_presets(config_dir: Path | None) -> str:
    lines = ["", "Presets"]
    students = preset_names("student", config_dir)
    for group in GROUPS:
        names = preset_names(group, config_dir)
        if group == "teacher" and set(students) < set(names):
            names = [*(name for name in names if name not in students), "and every student"]
        head = f"  {group:<11}"
        lines.append(textwrap.fill(", ".join(names), 118, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines) + "\n"


VERB = Verb(
    name="train",
    usage=("[GROUP=PRESET ...] [KEY=VALUE ...] [--OPTION ...]",),
    about="""\
Train one run; with -m, one for every combination of the comma-separated values. sweep=NAME does the same with the
values of a sweep preset. A teacher that has not been trained yet is trained first, once. A finished run is not trained
again, an unfinished run is resumed. Prints a line per epoch and the final accuracy; saves the run below runs_dir.""",
    sections=(
        (
            "Values",
            (
                "seed=1  precision=fp32|bf16|auto     loss.temperature=2  loss.ce_weight=0.1 loss.kd_weight=9",
                "loss.alpha=0.9                       sets kd_weight to 0.9 and ce_weight to 0.1",
                "recipe.epochs=10                     recipe.batch_size=64  recipe.optimizer.lr=0.05",
                "runs_dir=DIR                         the folder of the runs (default: $DISTILL_RUNS, or runs)",
                "dataset.npz=FILE  dataset.root=DIR   where the data are; dataset.download=true downloads CIFAR",
                "dataset.limit=N  dataset.holdout=M   use N training images, M of them for evaluation only",
                "teacher.run=ID|PATH                  a finished run as the teacher",
                "teacher.pretrained=true  teacher.weights=FILE  teacher.input=native  published weights as the teacher",
                "teacher.seed=0  teacher.precision=fp32  teacher.recipe.epochs=240      how the teacher is trained",
                "teacher.source=live|table|auto       run the teacher on every batch, or cache its logits in a table",
                "engine.device=auto|cpu|cuda:0  engine.threads=N  engine.compile=true  engine.capture=auto  "
                "engine.deterministic=true",
                "hydra/launcher=cohort                train a sweep's runs side by side, up to hydra.launcher.size=8",
                "student=timm student.name=NAME       student._target_=package.Class (your own)  student.weights=FILE",
            ),
        ),
        (
            "Options",
            (
                MULTIRUN,
                Argument("-m"),
                f"{'-m, --multirun':<30}  train every combination of the comma-separated values",
                SHOW,
                Argument("-c", choices=("job",)),
                RETRY,
                CONFIG_DIR,
            ),
        ),
    ),
    examples=(
        "distill train                                                  the demo, on digits",
        "distill train experiment=cifar100/resnet32x4_resnet8x4 loss=zscore_kd seed=1 dataset.download=true",
        "distill train student=resnet20 loss=ce seed=0 dataset=cifar100 dataset.root=data   a teacher, or a baseline",
        "distill train -m loss=ce,kd,zscore_kd seed=1,2,3",
        "distill train sweep=temperature loss=kd,zscore_kd   tunes on held-out images (sweep.select=null: the grid)",
    ),
    exit_codes="0 finished; 1 a run failed, or a signal stopped it; 2 refused; 3 another process is working on a run",
    hydra=True,
    appendix=_list_presets,
)


def run(line: CommandLine) -> int:
    """Check every run of the command, then train them; return the exit code."""
    if CONFIG_DIR.name in line.faulty:
        line.check()  # without that folder, every preset in it would be a mistake too

    from distill.config.sweep import prepare
    from distill.execution.jobs import run_sweep
    from distill.execution.stopping import Interrupted
    from distill.training import ProcessLost, this_world

    show_only = SHOW.name in line.options or "-c" in line.options
    try:
        with this_world().first_alone():  # so that one process downloads the data, and reads photographs once
            presets, sweep = prepare(
                line.overrides,
                multirun=MULTIRUN.name in line.options or "-m" in line.options,
                config_dir=line.config_dir,
                faults=line.faults,
                may_download=not show_only,
            )
        if show_only:
            for number, plan in enumerate(sweep.jobs):
                if number:
                    print("---")  # the next YAML document
                _show(plan)
            return FINISHED
        retry = RETRY.name in line.options
        return exit_code(run_sweep(presets, sweep, config_dir=line.config_dir, retry=retry))
    except (Interrupted, ProcessLost) as error:
        print(error, file=sys.stderr)
        return FAILED


def _show(plan: "RunPlan") -> None:
    """Print a run's resolved configuration, its id and its status."""
    print(yaml.safe_dump(_plain(plan.config), sort_keys=False), end="")
    record = read_run(plan.directory)
    print(f"# run id: {plan.run_id}")
    print(f"# status: {record.status if record else 'not started'} ({plan.directory})")


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
