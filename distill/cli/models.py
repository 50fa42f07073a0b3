"""`distill models`: every network with its size, cost and feature shapes."""

import re
from collections.abc import Sequence

from distill.cli import import_from_here
from distill.cli.grammar import (
    CONFIG_DIR,
    FINISHED,
    FORMAT,
    OUT,
    CommandLine,
    deliver,
    nearest,
    parse,
    run_verb,
)

HELP = """\
distill models [key=value ...] [--option ...]     list networks with parameters, MACs and feature shapes

Every student preset, counted exactly for the classes and image size of a data set: parameters, multiply-adds of one
image (convolutions, linear layers and attention), the width of the embedding, the shape of each tap. No data need
be present, but the file of dataset=arrays.

for which data
  dataset=cifar100         (default), or cifar10, digits, synthetic, arrays with dataset.npz=FILE
  dataset.classes=20  dataset.image_size=64      options of dataset=synthetic

which networks (a list means any of them)
  student=resnet8,resnet20
  student=timm student.name=resnet18             any network of timm, or torchvision, by its name
  student=timm student.name=vit_tiny_patch16_224 +student.img_size=32 +student.patch_size=4
  --config-dir DIR         presets of your own in DIR/student

how it looks
  --format terminal|markdown|latex|csv|json|html (default: terminal; plain lines when piped)
  --out FILE               write there instead; FILE.md .tex .csv .json .html choose their format

examples
  distill models
  distill models dataset=cifar10 student=plain_cnn,resnet_1m --format markdown

exit codes: 0 done; 2 refused
"""

# runs_dir: every verb takes it, this one has no use for it
KEYS = ("dataset", "student", "runs_dir")
OPTIONS = (FORMAT, OUT, CONFIG_DIR)


def main(argv: list[str]) -> int:
    """Run `distill models` with the words after the verb; return the exit code."""
    return run_verb(argv, _models, help_text=HELP)


def _models(argv: Sequence[str]) -> int:
    line = read(argv)
    line.check()
    import_from_here()

    from distill.cli.networks import count, views

    pairs = {key: value for key, value in line.pairs.items() if key != "runs_dir"}
    deliver(views(count(pairs, config_dir=line.config_dir)), line)
    return FINISHED


def read(argv: Sequence[str]) -> CommandLine:
    """The command line with its faults; `+student.key=value` is `student.key=value`, as Hydra would add it."""
    words = [re.sub(r"^\+{1,2}(?=(dataset|student)\.)", "", word) for word in argv]
    line = parse(words, keys=KEYS, options=OPTIONS, dotted=True)
    for key in line.pairs:
        group, dot, _ = key.partition(".")
        if dot and group not in ("dataset", "student"):
            line.faults.append(f"unknown key {key!r}: {nearest(group, ('dataset', 'student'))}")
        if group == "student" and dot and "student" not in line.pairs:
            line.faults.append(f"{key} belongs to one network: name that too, student=NAME {key}={line.pairs[key]}")
    return line
