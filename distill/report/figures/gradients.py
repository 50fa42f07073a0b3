"""How hard each term of a loss pulls."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill.report.figures.drawing import HATCHES, drawing, line
from distill.report.looks import DASHES, INK, MARKERS, PAPER, Look

_WIDE = 20  # times the smallest norm: from there on the larger ones would hide it


def draw_gradients_by_epoch(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """A panel for every run, its terms in the run's colour, all on one scale."""
    runs = numbers["runs"]
    across = min(2, len(runs))
    rows = -(-len(runs) // across)
    known = [value for run in runs.values() for values in run["terms"].values() for value in values if value]
    with drawing(
        rows, across, height=0.5 + 2.9 * rows, width=7.2 if across > 1 else 5.2, sharex=True, sharey=True
    ) as sketch:
        for axes, (name, run) in zip(sketch.flat, runs.items(), strict=False):
            _terms(axes, run, looks[name])
            axes.set_title(name)
        if known and max(known) > _WIDE * min(known):
            sketch.flat[0].set_yscale("log")
        else:
            sketch.flat[0].set_ylim(bottom=0)
        for row in sketch.axes:
            row[0].set_ylabel("norm of the gradient")
        for axes in sketch.keep(len(runs)):
            axes.set_xlabel("epoch")
        return sketch.svg()


def _terms(axes: Axes, run: Mapping[str, Any], look: Look) -> None:
    for place, (term, values) in enumerate(run["terms"].items()):
        known = [(x, y) for x, y in zip(run["epoch"], values, strict=True) if x is not None and y is not None]
        style = Look(look.colour, DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)])
        line(axes, [x for x, _ in known], [y for _, y in known], style, term)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()


def draw_gradients(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Norms of the terms' gradients, with their deviation over the batches."""
    bars = [(name, term, values) for name, run in numbers["runs"].items() for term, values in run["terms"].items()]
    with drawing(1, 2, height=1.3 + 0.36 * len(bars), width=8.0, sharey=True) as sketch:
        for axes, key, words in zip(
            sketch.flat,
            ("weights", "logits"),
            ("gradient at the weights (norm)", "gradient at the logits (norm)"),
            strict=True,
        ):
            for place, (name, term, values) in enumerate(bars):
                hatch = HATCHES[list(numbers["runs"][name]["terms"]).index(term) % len(HATCHES)]
                axes.barh(
                    place,
                    values[key]["mean"],
                    0.62,
                    xerr=values[key]["deviation"],
                    color=looks[name].colour,
                    hatch=hatch,
                    edgecolor=PAPER,
                    linewidth=0,
                    error_kw={"ecolor": INK, "capsize": 2.5, "elinewidth": 1},
                )
            axes.set_xlabel(words)
            axes.grid(axis="y", visible=False)
        sketch.flat[0].set_yticks(range(len(bars)), [f"{name}: {term}" for name, term, _ in bars])
        sketch.flat[0].invert_yaxis()
        return sketch.svg()
