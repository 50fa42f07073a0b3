"""Gradients of the loss terms: their norms by epoch, as training recorded them."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from distill.report.drawing import DASHES, MARKERS, Style, Styles, drawing, line, run_styles
from distill.report.page import Block, Figure, PageTable, Text, number_columns, text_columns
from distill.report.runs import Report
from distill.report.sections.curves import History, metrics

_WIDE = 20  # ratio of the largest to the smallest norm above which the axis is logarithmic


def gradient_norms(histories: Mapping[str, History]) -> dict[str, Any]:
    """By epoch, of the runs that recorded them: the 2-norm of each weighted term's gradient over the student's weights.

    Epochs without any are left out; None where one lacks a number.
    """
    found = {}
    for name, every in histories.items():
        lines = [each for each in every if metrics(each, "gradient_norms")]
        parts = [metrics(each, "gradient_norms") for each in lines]
        terms = dict.fromkeys(term for part in parts for term in part)
        if terms:
            norms = {term: [part.get(term) for part in parts] for term in terms}
            found[name] = {"epoch": [each.get("epoch") for each in lines], "terms": norms}
    return {"runs": found}


def draw_by_epoch(numbers: Mapping[str, Any], styles: Styles) -> str:
    """A panel for every run, its terms in the colour of the run, all on one scale."""
    runs = numbers["runs"]
    across = min(2, len(runs))
    known = [value for run in runs.values() for values in run["terms"].values() for value in values if value]
    size = {"margin": 0.5, "height": 2.9, "width": 7.2 if across > 1 else 5.2}
    with drawing(len(runs), across, **size, sharex=True, sharey=True) as drawn:
        for axes, (name, run) in zip(drawn.panels, runs.items(), strict=True):
            for n, (term, values) in enumerate(run["terms"].items()):
                style = Style(styles[name].colour, DASHES[n % len(DASHES)], MARKERS[n % len(MARKERS)])
                line(axes, run["epoch"], values, style, term)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend()
            axes.set_title(name)
        if known and max(known) > _WIDE * min(known):
            drawn.panels[0].set_yscale("log")
        else:
            drawn.panels[0].set_ylim(bottom=0)
        drawn.label("epoch", "norm of the gradient")
        return drawn.svg()


def blocks(report: Report) -> list[Block]:
    """Norms by epoch of the runs that recorded them."""
    recorded = gradient_norms({each.label: each.history for each in report.students})
    if not recorded["runs"]:
        return [Text("No gradients: these runs have no record of their norms.", missing=True)]
    return _by_epoch(recorded, run_styles(report))


def _by_epoch(numbers: Mapping[str, Any], styles: Styles) -> list[Block]:
    def known(epochs: Sequence[Any], values: Sequence[Any]) -> list[tuple[Any, float]]:
        return [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]

    ends = [
        (name, term, points[0], points[-1])
        for name, run in numbers["runs"].items()
        for term, values in run["terms"].items()
        if (points := known(run["epoch"], values))
    ]
    listed = ", ".join(f"{name} {term} from {first[1]:.2g} to {last[1]:.2g}" for name, term, first, last in ends)
    rows = [
        (name, term, f"{first[0]} to {last[0]}", f"{first[1]:.4g}", f"{last[1]:.4g}")
        for name, term, first, last in ends
    ]
    return [
        Figure(
            "gradient_norms",
            "Norm of the gradient of each weighted term at the student's weights, as training recorded it after these "
            "epochs: on the first batch of the next epoch, with the random draws and the memory of that step. All "
            "panels have one scale.",
            f"Line charts of gradient norms by epoch: {listed}.",
            numbers,
            draw_by_epoch(numbers, styles),
        ),
        PageTable(
            "Gradient norms at the weights, after the first and the last epoch with a record.",
            [*text_columns("run", "term"), *number_columns("epochs", "first", "last")],
            rows,
        ),
    ]
