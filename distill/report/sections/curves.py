"""Training: accuracy, cross-entropy and loss terms by epoch, and the epochs it takes to reach an accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from distill.report.drawing import COLOURS, DASHES, MARKERS, Style, Styles, drawing, line, run_styles, whole_epochs
from distill.report.page import Block, Figure, PageTable, Text, number_columns, text_columns
from distill.report.runs import Report

History = Sequence[Mapping[str, Any]]  # the lines of metrics.jsonl

SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)
_TERMS = (
    "Values of different losses cannot be compared; each loss has its own panel, in which its weighted terms add up to "
    "what is minimised. Cross-entropy and divergences are in nats, distances of features have no unit."
)


def curves(histories: Mapping[str, History], *, split: str) -> dict[str, Any]:
    """By epoch: accuracy (percent) and cross-entropy (nats) on `split`, and what was minimised on the training set.

    `terms` are the weighted terms of the loss; their sum is `train_loss`. None where a line lacks a number.
    """
    return {"split": split, "runs": {name: _curve(lines, split) for name, lines in histories.items()}}


def _curve(lines: History, split: str) -> dict[str, Any]:
    def values(part: str, key: str) -> list[Any]:
        return [metrics(each, part).get(key) for each in lines]

    terms = dict.fromkeys(key for each in lines for key in metrics(each, "train") if key not in ("accuracy", "loss"))
    return {
        "epoch": [each.get("epoch") for each in lines],
        "accuracy": values(split, "accuracy"),
        "loss": values(split, "loss"),
        "train_accuracy": values("train", "accuracy"),
        "train_loss": values("train", "loss"),
        "terms": {term: values("train", term) for term in terms},
        "learning_rate": [each.get("learning_rate") for each in lines],
    }


def metrics(epoch: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """One part of a line of metrics.jsonl, empty where the line lacks it."""
    part = epoch.get(key)
    return part if isinstance(part, Mapping) else {}


def levels(last: float, targets: Sequence[float]) -> list[float]:
    """The accuracies to list: `targets`, or without any, shares of `last`, the last accuracy of the baseline."""
    values = targets or [min(round(share * last, 2), last) for share in SHARES]  # never rounded above `last`
    return list({f"{value:g}": value for value in values}.values())  # a column for each


def epochs_to(drawn: Mapping[str, Any], targets: Sequence[float]) -> dict[str, Any]:
    """The first epoch after which each run is at least as accurate as each target, None where it never is."""

    def first(run: Mapping[str, Any], target: float) -> int | None:
        epochs = zip(run["epoch"], run["accuracy"], strict=True)
        return next((epoch for epoch, value in epochs if value and value >= target), None)

    runs = {name: [first(run, target) for target in targets] for name, run in drawn["runs"].items()}
    return {"targets": list(targets), "runs": runs}


def draw_evaluation(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Accuracy and cross-entropy on the evaluation images."""
    with drawing(2, 2, height=3.7) as drawn:
        for axes, key, label in zip(
            drawn.panels, ("accuracy", "loss"), ("accuracy (%)", "cross-entropy (nats)"), strict=True
        ):
            _draw_runs(axes, numbers, styles, key)
            axes.set_ylabel(f"{numbers['split']} {label}")
        drawn.legend()
        return drawn.svg()


def draw_training(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Accuracy on the augmented training images, and the weighted terms of each loss in its own panel."""
    runs = {name: run for name, run in numbers["runs"].items() if run["terms"]}
    with drawing(len(runs) + 1, 2, margin=0.6, height=2.9) as drawn:
        first, *others = drawn.panels
        _draw_runs(first, numbers, styles, "train_accuracy")
        first.set_ylabel("training accuracy (%)")
        drawn.legend()
        for axes, (name, run) in zip(others, runs.items(), strict=True):
            _draw_terms(axes, run, styles[name])
            axes.set_title(name)
        return drawn.svg()


def _draw_runs(axes: Axes, numbers: Mapping[str, Any], styles: Styles, key: str) -> None:
    for name, run in numbers["runs"].items():
        line(axes, run["epoch"], run[key], styles[name], name)
    whole_epochs(axes)


def _draw_terms(axes: Axes, run: Mapping[str, Any], style: Style) -> None:
    """The loss in the style of the run, its terms in grey: colours stand for methods."""
    several = len(run["terms"]) > 1
    for n, (term, values) in enumerate(run["terms"].items()):
        grey = Style(COLOURS[0], DASHES[(n + 1) % len(DASHES)], MARKERS[(n + 3) % len(MARKERS)])
        line(axes, run["epoch"], values, grey if several else style, term)
    if several:
        line(axes, run["epoch"], run["train_loss"], style, "sum")
    if all(value >= 0 for values in run["terms"].values() for value in values if value is not None):
        axes.set_ylim(bottom=0)
    axes.set_ylabel("weighted loss terms")
    axes.legend()
    whole_epochs(axes)


def blocks(report: Report) -> list[Block]:
    """Curves of all runs, the terms of their losses, and the table of first epochs."""
    histories = {each.label: each.history for each in report.everyone if each.history}
    if not histories:
        return [Text("No run has a record of its epochs (metrics.jsonl), so there are no curves.", missing=True)]
    split = str(report.run.result["split"])
    numbers, styles = curves(histories, split=split), run_styles(report)
    known = {name: [v for v in run["accuracy"] if v is not None] for name, run in numbers["runs"].items()}
    ends = ", ".join(f"{name} ends at {values[-1]:.2f} %" for name, values in known.items() if values)
    made: list[Block] = [
        Figure(
            "curves",
            f"Accuracy and cross-entropy on the {split} images after every epoch.",
            f"Two line charts over the epochs. {ends}.",
            numbers,
            draw_evaluation(numbers, styles),
        )
    ]
    if any(run["terms"] for run in numbers["runs"].values()):
        made.append(
            Figure(
                "training",
                f"Accuracy on the augmented training images and the terms of each loss, means over the epoch. {_TERMS}",
                "Line charts over the epochs: training accuracy of all runs, then the loss terms of each run.",
                numbers,
                draw_training(numbers, styles),
            )
        )
    baseline = report.students[0]
    reached = epochs_to(numbers, levels(baseline.result["last"]["accuracy"], report.targets))
    chosen = "" if report.targets else f" The levels are shares of the last accuracy of {baseline.label}."
    caption = f"First epoch with at least this {split} accuracy; - where it is never reached.{chosen}"
    columns = [*text_columns("run"), *number_columns(*(f"{target:g} %" for target in reached["targets"]))]
    rows = [(name, *(str(epoch or "-") for epoch in epochs)) for name, epochs in reached["runs"].items()]
    return [*made, PageTable(caption, columns, rows)]
