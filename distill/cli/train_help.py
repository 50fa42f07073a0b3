"""`distill train --help`: a screenful, with the presets that are there; imports neither torch nor Hydra."""

from pathlib import Path

from distill.compose.locate import configs_dir

GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")

TEXT = """distill train [GROUP=OPTION ...] [KEY=VALUE ...] [OPTIONS]

Trains one run, or with -m (or sweep=NAME) one for every combination of comma-separated values. A teacher that has
not been trained yet is trained first, once. A finished run is not trained again; an unfinished one is resumed.

  distill train                                                  the demo, on digits
  distill train experiment=cifar100/resnet32x4_resnet8x4 loss=zscore_kd seed=1
  distill train student=resnet20 loss=ce seed=0 dataset=cifar100 recipe=cifar     a teacher or a baseline
  distill train -m loss=ce,kd,zscore_kd seed=1,2,3
  distill train sweep=temperature loss=zscore_kd

Values
  seed=1                          loss.temperature=2  loss.alpha=0.5  loss.ce_weight=0.1 loss.kd_weight=9
  precision=fp32|bf16|auto        recipe.epochs=10  recipe.batch_size=64  recipe.optimizer.lr=0.05
  runs_dir=DIR (or DISTILL_RUNS)  dataset.npz=FILE  dataset.root=DIR  dataset.limit=N  dataset.holdout=N
  engine.device=auto|cpu|cuda:0   teacher.seed=0  teacher.precision=fp32  teacher.recipe.epochs=240
  engine.threads=N                teacher.run=ID|PATH (take a finished run as teacher)
  student=timm student.name=NAME  student._target_=package.Class (your own network)

Options
  -m, --multirun     sweep                       --retry            take up runs that failed
  --cfg job          show configuration and id   --config-dir DIR   your own presets

Presets"""


def print_help(config_dir: Path | None) -> None:
    """Print the text and the options of every group, the user's own among them."""
    print(TEXT)
    folders = [configs_dir()] + ([config_dir] if config_dir is not None else [])
    for group in GROUPS:
        names = sorted({name for folder in folders for name in options(folder / group)})
        print(f"  {group:<11}{', '.join(names)}")


def options(folder: Path) -> list[str]:
    """The presets below a group's folder."""
    return [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")]
