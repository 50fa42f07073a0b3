"""Error of every class: a run against another."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from distill.report.figures.drawing import drawing
from distill.report.looks import FAINT, INK, PAPER, Look

NAMED = 2  # classes on either side that are called by name
_SIDE, _LETTERS = 200, 11  # points: a panel's side, about, and the height of a name


def draw_errors(numbers: Mapping[str, Any], looks: Mapping[str, Look], *, of: str, against: Sequence[str]) -> str:
    """One point a class: below the line `of` is better. The classes that differ most have their names beside them."""
    across = min(2, len(against))
    rows = -(-len(against) // across)
    with drawing(rows, across, height=0.3 + 3.7 * rows, width=3.7 * across) as sketch:
        for axes, other in zip(sketch.flat, against, strict=False):
            _scatter(axes, numbers, of, other, looks[of])
        sketch.keep(len(against))
        return sketch.svg()


def _scatter(axes: Axes, numbers: Mapping[str, Any], of: str, other: str, look: Look) -> None:
    pairs = zip(numbers["classes"], numbers["error"][other], numbers["error"][of], strict=True)
    points = [(x, y, name) for name, x, y in pairs if x is not None and y is not None]
    most = min(100.0, 1.15 * max([1.0, *(max(x, y) for x, y, _ in points)]))
    axes.plot([0, most], [0, most], color=FAINT, linewidth=1)
    axes.scatter(
        [x for x, _, _ in points],
        [y for _, y, _ in points],
        s=30,
        color=look.colour,
        marker=look.marker,
        edgecolor=PAPER,
        linewidth=0.4,
    )
    order = sorted(points, key=lambda point: point[1] - point[0])
    below = [point for point in order[:NAMED] if point[1] < point[0]]
    above = [point for point in order[-NAMED:] if point[1] > point[0]]
    for better, named in ((True, below), (False, above)):
        for (x, y, name), lift in zip(named, _lifts([y for _, y, _ in named], most, down=better), strict=True):
            axes.annotate(
                name,
                (x, y),
                xytext=(4, lift - 4) if better else (4 * _away(x, most), lift + 4),
                textcoords="offset points",
                ha="left" if better or _away(x, most) > 0 else "right",
                va="top" if better else "bottom",
                fontsize=9,
                color=INK,
            )
    axes.set_xlim(-0.02 * most, 1.02 * most)
    axes.set_ylim(-0.02 * most, 1.02 * most)
    axes.set_aspect("equal")
    axes.set_xlabel(f"error of {other} (%)")
    axes.set_ylabel(f"error of {of} (%)")


def _lifts(heights: Sequence[float], most: float, *, down: bool) -> list[float]:
    """Points by which the names at these heights move, all down or all up, so that each has a line of its own."""
    sign = -1 if down else 1
    lifts, line = dict.fromkeys(range(len(heights)), 0.0), -math.inf
    for place in sorted(lifts, key=lambda place: sign * heights[place]):
        height = sign * heights[place] / most * _SIDE
        lifts[place] = sign * max(0.0, line - height)
        line = max(line, height) + _LETTERS
    return list(lifts.values())


def _away(x: float, most: float) -> int:
    """The side of a point on which there is room for its name."""
    return 1 if x < 0.3 * most else -1
