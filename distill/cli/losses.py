"""`distill losses`: every loss preset with its paper, terms, needs and numbers."""

from collections.abc import Sequence

from distill.cli import import_from_here
from distill.cli.grammar import (
    CONFIG_DIR,
    FINISHED,
    FORMAT,
    OUT,
    deliver,
    parse,
    run_verb,
)

HELP = """\
distill losses [loss=NAME] [--option ...]     list loss presets with paper, terms, needs and numbers

One line for every preset, beginning with its name in `distill train loss=NAME`.

  paper      the first work that the preset's header cites; `ours` where the combination is this package's
  terms      the parts of the loss, as they are logged; their sum is minimised; in brackets those of a first stage, a
             run that is trained before
  needs      beside the labels, of the teacher or of both networks: logits, features (maps between stages),
             preactivations (those before their ReLU), final_map, embedding, head (the linear classifier);
             index (positions in the training set), strong (a second, strongly augmented view); `no teacher` where
             labels do
  defaults   the preset's numbers: each can be set, loss.temperature=3; `pair` where the experiment says it

Terms and needs are not written down anywhere: each preset is built, run on shapes, and run again without each need.

which presets (a list means any of them)
  loss=kd,dkd,crd
  --config-dir DIR         presets of your own in DIR/loss

how it looks
  --format terminal|markdown|latex|csv|json|html (default: terminal; plain lines when piped)
                           csv and json also tell what a preset's header says: title, source, arXiv number
  --out FILE               write there instead; FILE.md .tex .csv .json .html choose their format

examples
  distill losses
  distill losses loss=crd,review_kd --format json
  distill losses | grep 'no teacher'

exit codes: 0 done; 2 refused
"""

# runs_dir: every verb takes it, this one has no use for it
KEYS = ("loss", "runs_dir")
OPTIONS = (FORMAT, OUT, CONFIG_DIR)


def main(argv: list[str]) -> int:
    """Run `distill losses` with the words after the verb; return the exit code."""
    return run_verb(argv, _losses, help_text=HELP)


def _losses(argv: Sequence[str]) -> int:
    line = parse(argv, keys=KEYS, options=OPTIONS)
    line.check()
    import_from_here()

    from distill.cli.loss_presets import catalogue, views

    asked = line.pairs["loss"].split(",") if "loss" in line.pairs else []
    deliver(views(catalogue(asked, config_dir=line.config_dir)), line)
    return FINISHED
