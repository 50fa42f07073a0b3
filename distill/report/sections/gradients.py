"""Gradients of the loss terms: their norms by epoch as training recorded them, or with the final weights."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from distill.report.drawing import DASHES, HATCHES, MARKERS, Style, Styles, drawing, line, run_styles
from distill.report.page import INK, PAPER, Block, Figure, PageTable, Text, number
from distill.report.runs import Report
from distill.report.sections.curves import History, metrics

_WIDE = 20  # ratio of the largest to the smallest norm above which the axis is logarithmic
_NOW = (
    "Measured now, with the final weights: these runs recorded the values of their terms by epoch (above), not their "
    "gradients, so how the norms changed during training is not known."
)


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


def draw_at_the_end(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Norms of the terms' gradients, with their deviation over the batches."""
    bars = [(name, *each) for name, run in numbers["runs"].items() for each in enumerate(run["terms"].items())]
    with drawing(2, 2, margin=1.3, height=0.36 * len(bars), width=8.0, sharey=True) as drawn:
        for axes, key in zip(drawn.panels, ("weights", "logits"), strict=True):
            for y, (name, n, (_, values)) in enumerate(bars):
                axes.barh(
                    y,
                    values[key]["mean"],
                    0.62,
                    xerr=values[key]["deviation"],
                    color=styles[name].colour,
                    hatch=HATCHES[n % len(HATCHES)],
                    edgecolor=PAPER,
                    linewidth=0,
                    error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 1},
                )
            axes.set_xlabel(f"gradient at the {key} (norm)")
            axes.grid(axis="y", visible=False)
        drawn.panels[0].set_yticks(range(len(bars)), [f"{name}: {term}" for name, _, (term, _) in bars])
        drawn.panels[0].invert_yaxis()
        return drawn.svg()


def blocks(report: Report) -> list[Block]:
    """Norms by epoch where a run recorded them, else with the final weights."""
    styles = run_styles(report)
    recorded = gradient_norms({each.label: each.history for each in report.students})
    measured = {each.label: each.gradients for each in report.students if each.gradients}
    final = {label: each for label, each in measured.items() if label not in recorded["runs"]}
    made = _by_epoch(recorded, styles) if recorded["runs"] else []
    made += _at_the_end(final, styles) if final else []
    text = "No gradients: they need weights, data, and a method without parameters of its own."
    return made or [Text(text, missing=True)]


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
            {"run": False, "term": False, "epochs": True, "first": True, "last": True},
            rows,
        ),
    ]


def _with_deviation(norm: Mapping[str, float | None]) -> str:
    """`0.1234 ± 0.01`; of one batch without the deviation."""
    spread = "" if norm["deviation"] is None else f" ± {norm['deviation']:.2g}"
    return f"{norm['mean']:.4g}{spread}"


def _at_the_end(runs: Mapping[str, Mapping[str, Any]], styles: Styles) -> list[Block]:
    some = next(iter(runs.values()))
    terms = [(name, term, values) for name, run in runs.items() for term, values in run["terms"].items()]
    listed = ", ".join(f"{name} {term} {values['weights']['mean']:.2g}" for name, term, values in terms)
    rows = [
        (
            name,
            term,
            *(_with_deviation(values[key]) for key in ("weights", "logits")),
            number(values["cosine_to_ce"], 3),
        )
        for name, term, values in terms
    ]
    numbers = {"runs": runs}
    return [
        Figure(
            "gradients",
            f"Norm of the gradient of each weighted term, mean and standard deviation over {some['batches']} batches "
            f"of {some['batch_size']} augmented training images, BatchNorm as in training. {_NOW}",
            f"Bar charts of gradient norms: {listed}.",
            numbers,
            draw_at_the_end(numbers, styles),
        ),
        PageTable(
            "Gradient norms; the cosine is that between a term's gradient at the weights and that of ce.",
            {"run": False, "term": False, "at the weights": True, "at the logits": True, "cosine to ce": True},
            rows,
        ),
    ]
