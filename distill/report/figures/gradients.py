"""How hard each term of a loss pulls."""

from collections.abc import Mapping
from typing import Any

from distill.report.figures.drawing import HATCHES, drawing
from distill.report.looks import INK, PAPER, Look


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
