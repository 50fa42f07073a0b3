"""Accuracy and loss by epoch."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill.report.figures.drawing import drawing, line
from distill.report.looks import COLOURS, DASHES, MARKERS, Look

Looks = Mapping[str, Look]


def draw_evaluation(numbers: Mapping[str, Any], looks: Looks) -> str:
    """Accuracy and cross-entropy on the evaluation images."""
    with drawing(1, 2, height=3.7) as sketch:
        accuracy, loss = sketch.flat
        _runs(accuracy, numbers, looks, "accuracy")
        _runs(loss, numbers, looks, "loss")
        accuracy.set_ylabel(f"{numbers['split']} accuracy (%)")
        loss.set_ylabel(f"{numbers['split']} cross-entropy (nats)")
        sketch.legend()
        return sketch.svg()


def draw_training(numbers: Mapping[str, Any], looks: Looks) -> str:
    """Accuracy on the augmented training images, and the weighted terms of each loss in a panel of their own."""
    runs = {name: run for name, run in numbers["runs"].items() if run["terms"]}
    across = 2
    rows = -(-(len(runs) + 1) // across)
    with drawing(rows, across, height=0.6 + 2.9 * rows) as sketch:
        first, *others = sketch.flat
        _runs(first, numbers, looks, "train_accuracy")
        first.set_ylabel("training accuracy (%)")
        sketch.legend()
        for axes, (name, run) in zip(others, runs.items(), strict=False):
            _terms(axes, run, looks[name])
            axes.set_title(name)
        sketch.keep(len(runs) + 1)
        return sketch.svg()


def _runs(axes: Axes, numbers: Mapping[str, Any], looks: Looks, key: str) -> None:
    for name, run in numbers["runs"].items():
        line(axes, *_known(run["epoch"], run[key]), looks[name], name)
    _epochs(axes)


def _terms(axes: Axes, run: Mapping[str, Any], look: Look) -> None:
    """The loss in the run's own look, its terms in greys: colours belong to methods."""
    several = len(run["terms"]) > 1
    for place, (term, values) in enumerate(run["terms"].items()):
        dash, marker = DASHES[(place + 1) % len(DASHES)], MARKERS[(place + 3) % len(MARKERS)]
        line(axes, *_known(run["epoch"], values), Look(COLOURS[0], dash, marker) if several else look, term)
    if several:
        line(axes, *_known(run["epoch"], run["train_loss"]), look, "sum")
    if all(value >= 0 for values in run["terms"].values() for value in values if value is not None):
        axes.set_ylim(bottom=0)
    axes.set_ylabel("weighted loss terms")
    axes.legend()
    _epochs(axes)


def _known(epochs: Any, values: Any) -> tuple[list[Any], list[Any]]:
    pairs = [(x, y) for x, y in zip(epochs, values, strict=True) if x is not None and y is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
