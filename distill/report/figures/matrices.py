"""Class by class: differences of mean logits, and confusion."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from distill.report.figures.drawing import beside, drawing, heat

NAMED = 20  # classes whose names fit beside a matrix
_KINDS = {"raw": "raw logits", "standardised": "after the z-score"}


def draw_class_means(numbers: Mapping[str, Any]) -> str:
    """A column for every student; raw above standardised, each row on one scale."""
    students = numbers["students"]
    width = max(4.6, min(9.0, 1.6 + 2.4 * len(students)))
    side = (width - 1.6) / len(students)
    with drawing(2, len(students), height=0.5 + 2 * (side + 0.5), width=width, sharex=True, sharey=True) as sketch:
        for row, (kind, words) in zip(sketch.axes, _KINDS.items(), strict=True):
            most = max(each[kind]["max"] for each in students.values()) or 1.0
            for axes, (name, each) in zip(row, students.items(), strict=True):
                image = heat(axes, each[kind]["map"], most=most)
                axes.set_title(f"{name}\nmean {each[kind]['mean']:.3f}, max {each[kind]['max']:.2f}", fontsize=9.5)
            row[0].set_ylabel(f"{words}\ntrue class")
            sketch.figure.colorbar(image, ax=row, label="|student - teacher|", fraction=0.05)
        for axes in sketch.axes[-1]:
            axes.set_xlabel("logit of class")
        return sketch.svg()


def draw_confusion(numbers: Mapping[str, Any]) -> str:
    """Shares of each true class, a panel for every network."""
    networks, names = numbers["networks"], numbers["classes"]
    named = len(names) <= NAMED
    across = min(2, len(networks)) if named else beside(len(networks))
    rows = -(-len(networks) // across)
    width = 8.6 if across > 1 else 5.4
    side = (width - 1.7) / across
    with drawing(
        rows, across, height=(1.1 if named else 0.7) + (side + 0.3) * rows, width=width, sharex=True, sharey=True
    ) as sketch:
        for axes, (name, each) in zip(sketch.flat, networks.items(), strict=False):
            counts = np.array(each["counts"], dtype=float)
            shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            image = heat(axes, shares, most=100.0)
            axes.set_title(name)
            if named:
                _names(axes, names)
        for row in sketch.axes:
            row[0].set_ylabel("true class")
        for axes in sketch.keep(len(networks)):
            axes.set_xlabel("predicted class")
        sketch.figure.colorbar(image, ax=sketch.flat, label="share of the true class (%)", fraction=0.05)
        return sketch.svg()


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names)
