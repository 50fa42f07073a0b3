"""Sizes of logits: histograms, ranges, and the joint distribution of each image's mean and deviation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from distill.report.drawing import HEAT, Styles, drawing, run_styles, square, steps
from distill.report.page import Block, Figure, PageTable, number_columns, text_columns
from distill.report.runs import Images, Report
from distill.report.softmax import Labels, Logits, Reals
from distill.tables.values import number

MOST_BINS, MOST_JOINT_BINS, LEAST_BINS = 80, 48, 12


def logit_spread(networks: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Histograms over common bins of all logits and of each image's range (largest minus smallest), with summaries."""
    values = {name: logits.astype(np.float64) for name, logits in networks.items()}
    return {
        "logits": _histograms({name: each.ravel() for name, each in values.items()}),
        "ranges": _histograms({name: np.ptp(each, axis=1) for name, each in values.items()}),
        "summary": {
            name: {
                "min": float(each.min()),
                "max": float(each.max()),
                "mean": float(each.mean()),
                "mean_range": float(np.ptp(each, axis=1).mean()),
                "mean_deviation": float(each.std(axis=1).mean()),
                "mean_target": float(each[np.arange(len(labels)), labels].mean()),
            }
            for name, each in values.items()
        },
    }


def _histograms(values: Mapping[str, Reals]) -> dict[str, Any]:
    """`density` per unit of the values, so that histograms of different counts compare."""
    edges = _edges(list(values.values()), most=MOST_BINS)
    density = {name: np.histogram(each, bins=edges, density=True)[0].tolist() for name, each in values.items()}
    return {"edges": edges.tolist(), "density": density}


def mean_and_deviation(networks: Mapping[str, Logits]) -> dict[str, Any]:
    """Images by the mean (rows) and the deviation (columns) of their K logits, counted over common bins.

    The deviation is that of the population (1/K), as in the paper's figure 5.
    """
    found = {
        name: (logits.mean(axis=1, dtype=np.float64), logits.astype(np.float64).std(axis=1))
        for name, logits in networks.items()
    }
    means = _edges([mean for mean, _ in found.values()], most=MOST_JOINT_BINS)
    deviations = _edges([deviation for _, deviation in found.values()], most=MOST_JOINT_BINS)
    return {
        "mean_edges": means.tolist(),
        "deviation_edges": deviations.tolist(),
        "networks": {
            name: {
                "mean": float(mean.mean()),
                "deviation": float(deviation.mean()),
                "counts": np.histogram2d(mean, deviation, bins=(means, deviations))[0].astype(int).tolist(),
            }
            for name, (mean, deviation) in found.items()
        },
    }


def _edges(values: list[Reals], *, most: int) -> Reals:
    """Edges of bins of equal width over all values; their number is the root of the count, within bounds."""
    bins = int(np.clip(np.sqrt(len(values[0])), LEAST_BINS, most))
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)
    if high - low < 1e-6 * max(1.0, abs(high)):  # all values are equal, and a bin needs a width
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def draw_spread(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Histograms of all logits, and of each image's range."""
    with drawing(2, 2, height=3.6) as drawn:
        for axes, key, label in zip(
            drawn.panels, ("logits", "ranges"), ("logit", "range of an image's logits"), strict=True
        ):
            densities = numbers[key]["density"]
            for name, density in densities.items():
                steps(axes, numbers[key]["edges"], density, styles[name], name)
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(map(max, densities.values())) * 1e-4)  # rare values would stretch the axis
            axes.set_xlabel(label)
            axes.set_ylabel("density (per unit)")
        drawn.legend()
        return drawn.svg()


def draw_joint(numbers: Mapping[str, Any]) -> str:
    """Mean and deviation of each image's logits: a panel for every network, with common axes and colours."""
    networks = numbers["networks"]
    most = max(max(map(max, each["counts"])) for each in networks.values())
    deviations, means = numbers["deviation_edges"], numbers["mean_edges"]
    image: dict[str, Any] = {
        "cmap": HEAT,
        "norm": LogNorm(1, max(most, 2)),
        "extent": (deviations[0], deviations[-1], means[0], means[-1]),
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "none",
    }
    count = len(networks)
    with drawing(count, square(count), margin=0.5, height=2.6, sharex=True, sharey=True) as drawn:
        for axes, (name, each) in zip(drawn.panels, networks.items(), strict=True):
            mesh = axes.imshow(np.ma.masked_equal(np.array(each["counts"], dtype=float), 0), **image)
            axes.grid(False)
            axes.set_title(f"{name}\nstandard deviation {each['deviation']:.2f}")
        drawn.label("their standard deviation", "mean of an image's logits")
        drawn.figure.colorbar(mesh, ax=drawn.figure.axes, label="images", fraction=0.05)
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """Histograms with a table, and mean against deviation."""
    numbers, joint = logit_spread(report.logits, images.labels), mean_and_deviation(report.logits)
    deviations = ", ".join(f"{name} {each['mean_deviation']:.2f}" for name, each in numbers["summary"].items())
    headers = {
        "min": "smallest",
        "max": "largest",
        "mean": "mean",
        "mean_range": "mean range",
        "mean_deviation": "mean standard deviation",
        "mean_target": "mean of the target's",
    }
    rows = [(name, *(number(each[key], 3) for key in headers)) for name, each in numbers["summary"].items()]
    return [
        Figure(
            "logits",
            "Densities of all logits, and of each image's range (largest minus smallest); the axis is logarithmic.",
            f"Histograms as outlines. Mean standard deviation of an image's logits: {deviations}.",
            numbers,
            draw_spread(numbers, run_styles(report)),
        ),
        PageTable(
            "Logits over all images; range and standard deviation are those of one image's logits.",
            [*text_columns("network"), *number_columns(*headers.values())],
            rows,
        ),
        Figure(
            "mean_deviation",
            "Images by the mean and the standard deviation (1/K) of their logits: figure 5 of the Z-score paper.",
            f"Two-dimensional histograms, one for each network. Mean standard deviations: {deviations}.",
            joint,
            draw_joint(joint),
        ),
    ]
