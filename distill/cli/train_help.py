"""`distill train --help`: a screenful, with the presets that are there; imports neither torch nor Hydra."""

import textwrap
from pathlib import Path

from distill.config import configs_dir
from distill.tables.values import natural_key

GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
WIDTH = 118

TEXT = """distill train [GROUP=OPTION ...] [KEY=VALUE ...] [OPTIONS]

Trains one run, or with -m (or sweep=NAME) one for every combination of comma-separated values. A teacher that has
not been trained yet is trained first, once. A finished run is not trained again; an unfinished one is resumed.

  distill train                                                  the demo, on digits
  distill train experiment=cifar100/resnet32x4_resnet8x4 loss=zscore_kd seed=1
  distill train student=resnet20 loss=ce seed=0 dataset=cifar100 recipe=cifar     a teacher or a baseline
  distill train -m loss=ce,kd,zscore_kd seed=1,2,3
  distill train sweep=temperature loss=kd,zscore_kd              tuned on held-out images, the best then on all

Values
  seed=1                          loss.temperature=2  loss.alpha=0.5  loss.ce_weight=0.1 loss.kd_weight=9
  precision=fp32|bf16|auto        recipe.epochs=10  recipe.batch_size=64  recipe.optimizer.lr=0.05
  runs_dir=DIR (or DISTILL_RUNS)  dataset.npz=FILE  dataset.root=DIR  dataset.limit=N  dataset.holdout=N
  engine.device=auto|cpu|cuda:0   engine.threads=N engine.compile=true engine.capture=auto engine.deterministic=true
  teacher.run=ID|PATH (finished)  teacher.seed=0  teacher.precision=fp32  teacher.recipe.epochs=240
  teacher.source=live|table|auto  run the teacher on every batch, or read its logits from a table built once
  student=timm student.name=NAME  student._target_=package.Class (your own network)

Options  -m, --multirun   sweep                       --retry            take up runs that failed
         --cfg job        show configuration and id   --config-dir DIR   your own presets

Presets"""


def print_help(config_dir: Path | None) -> None:
    """Print the text and the options of every group, the user's own among them."""
    print(TEXT)
    students = group_options("student", config_dir)
    for group in GROUPS:
        names = group_options(group, config_dir)
        if group == "teacher" and names == sorted(["none", *students], key=natural_key):
            names = ["none", "and every student"]
        head = f"  {group:<11}"
        print(textwrap.fill(", ".join(names), WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))


def group_options(group: str, config_dir: Path | None) -> list[str]:
    """The presets of a group, shipped and the user's own, in the order people expect."""
    folders = [folder / group for folder in (configs_dir(), config_dir) if folder is not None]
    found = {path.relative_to(folder).with_suffix("") for folder in folders for path in folder.rglob("*.yaml")}
    return sorted((name.as_posix() for name in found), key=natural_key)
