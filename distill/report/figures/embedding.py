"""Embeddings in the plane."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.report.figures.drawing import beside, drawing
from distill.report.looks import COLOURS, INK, MARKERS, PAPER


def draw_planes(numbers: Mapping[str, Any]) -> str:
    """A panel for every network. Colours and markers are classes here, not methods."""
    networks, classes = numbers["networks"], list(dict.fromkeys(numbers["classes"]))
    across = beside(len(networks))
    rows = -(-len(networks) // across)
    of = np.array([classes.index(each) for each in numbers["classes"]])
    with drawing(rows, across, height=0.9 + 2.9 * rows, width=8.6) as sketch:
        for axes, (name, plane) in zip(sketch.flat, networks.items(), strict=False):
            points = np.array(plane)
            for place, each in enumerate(classes):
                x, y = points[of == place].T
                colour = (*COLOURS, INK)[place % (len(COLOURS) + 1)]
                axes.plot(x, y, MARKERS[place], color=colour, ms=4.5, mec=PAPER, mew=0.3, label=each)
            axes.set_title(name)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            axes.set_xlabel("t-SNE 1")
            axes.set_ylabel("t-SNE 2")
        sketch.keep(len(networks))
        sketch.legend()
        return sketch.svg()
