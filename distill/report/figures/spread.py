"""Sizes of logits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from distill.report.figures.drawing import HEAT, beside, drawing, steps
from distill.report.looks import Look


def draw_spread(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Histograms of all logits, and of each image's range."""
    with drawing(1, 2, height=3.6) as sketch:
        for axes, key, what in zip(
            sketch.flat, ("logits", "ranges"), ("logit", "range of an image's logits"), strict=True
        ):
            for name, density in numbers[key]["density"].items():
                steps(axes, numbers[key]["edges"], density, looks[name], name)
            axes.set_yscale("log")
            axes.set_ylim(bottom=_floor(numbers[key]["density"]))
            axes.set_xlabel(what)
            axes.set_ylabel("density (per unit)")
        sketch.legend()
        return sketch.svg()


def _floor(densities: Mapping[str, Any]) -> float:
    """Four decades below the highest: rare values would stretch the axis."""
    return max(max(each) for each in densities.values()) * 1e-4


def draw_joint(numbers: Mapping[str, Any]) -> str:
    """Mean and deviation of each image's logits: a panel for every network, on common axes and colours."""
    networks = numbers["networks"]
    across = beside(len(networks))
    rows = -(-len(networks) // across)
    most = max(max(map(max, each["counts"])) for each in networks.values())
    deviations, means = numbers["deviation_edges"], numbers["mean_edges"]
    extent = (deviations[0], deviations[-1], means[0], means[-1])
    with drawing(rows, across, height=0.5 + 2.6 * rows, sharex=True, sharey=True) as sketch:
        for axes, (name, each) in zip(sketch.flat, networks.items(), strict=False):
            counts = np.array(each["counts"], dtype=float)
            shown = np.ma.masked_equal(counts, 0)
            mesh = axes.imshow(
                shown,
                cmap=HEAT,
                norm=LogNorm(1, max(most, 2)),
                extent=extent,
                origin="lower",
                aspect="auto",
                interpolation="none",
            )
            axes.grid(False)
            axes.set_title(f"{name}\ndeviation {each['deviation']:.2f}")
        for row in sketch.axes:
            row[0].set_ylabel("mean of an image's logits")
        for axes in sketch.keep(len(networks)):
            axes.set_xlabel("their deviation")
        sketch.figure.colorbar(mesh, ax=sketch.flat, label="images", fraction=0.05)
        return sketch.svg()
