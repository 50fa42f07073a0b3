"""Reliability diagrams."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from distill.report.figures.drawing import drawing, line, steps
from distill.report.looks import FAINT, Look

_KINDS = {"raw": "raw", "scaled": "after temperature scaling"}


def draw_reliability(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Accuracy over confidence above, how many images have it below; raw left, scaled right."""
    with drawing(2, 2, height=5.6, sharex=True, sharey="row", height_ratios=[2.4, 1]) as sketch:
        for column, (kind, title) in enumerate(_KINDS.items()):
            above, below = sketch.axes[0][column], sketch.axes[1][column]
            above.plot([0, 100], [0, 100], color=FAINT, linewidth=1)
            for name, each in numbers["networks"].items():
                _network(above, below, each[kind]["reliability"], looks[name], name)
            above.set_title(title)
            below.set_xlabel("confidence (%)")
            below.set_yscale("log")
        sketch.axes[0][0].set_ylabel("accuracy (%)")
        sketch.axes[1][0].set_ylabel("images")
        sketch.axes[0][0].set_ylim(0, 100)
        sketch.axes[0][0].set_xlim(0, 100)
        sketch.legend()
        return sketch.svg()


def _network(above: Axes, below: Axes, bins: list[dict[str, Any]], look: Look, name: str) -> None:
    filled = [each for each in bins if each["count"]]
    line(above, [each["confidence"] for each in filled], [each["accuracy"] for each in filled], look, name)
    edges = [100 * each["low"] for each in bins] + [100.0]
    steps(below, edges, [each["count"] for each in bins], look, name)
