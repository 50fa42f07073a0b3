"""The softmax of real images at several temperatures, and its entropy over all images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from distill.report.figures.drawing import HATCHES, drawing, line
from distill.report.looks import FAINT, INK, PAPER, Look


def draw_samples(numbers: Mapping[str, Any], looks: Mapping[str, Look], pixels: NDArray[np.uint8]) -> str:
    """One row an image: the picture, then bars of the likeliest classes, a panel for every temperature.

    `pixels` (images, H, W, 3) are the pictures in the order of the numbers.
    """
    images, temperatures = numbers["images"], numbers["temperatures"]
    ratios = [1.15, *[1.0] * len(temperatures)]
    with drawing(
        len(images), 1 + len(temperatures), height=0.7 + 2.35 * len(images), width_ratios=ratios, width=8.6
    ) as sketch:
        for row, image, picture in zip(sketch.axes, images, pixels, strict=True):
            _picture(row[0], picture, image)
            for axes, temperature in zip(row[1:], temperatures, strict=True):
                _bars(axes, image, f"{temperature:g}", looks)
                axes.set_title(f"T = {temperature:g}")
            row[1].set_yticks(range(len(image["classes"])), _marked(image))
            for axes in row[2:]:
                axes.set_yticks(range(len(image["classes"])), [""] * len(image["classes"]))
        for axes in sketch.axes[-1][1:]:
            axes.set_xlabel("probability (%)")
        sketch.legend(axes=sketch.axes[0][1])
        return sketch.svg()


def _picture(axes: Axes, picture: NDArray[np.uint8], image: Mapping[str, Any]) -> None:
    axes.imshow(picture, interpolation="none")
    axes.set_axis_off()
    axes.set_title(_wrapped(image["kind"]), fontsize=9.5)


def _wrapped(words: str) -> str:
    """In two lines of about equal length."""
    parts = words.split()
    breaks = range(1, len(parts))
    if len(words) <= 14 or not breaks:
        return words
    best = min(breaks, key=lambda at: abs(len(" ".join(parts[:at])) - len(" ".join(parts[at:]))))
    return " ".join(parts[:best]) + "\n" + " ".join(parts[best:])


def _marked(image: Mapping[str, Any]) -> list[str]:
    """The names of the classes; a dot stands before the true one."""
    return [f"● {name}" if name == image["true"] else name for name in image["classes"]]


def _bars(axes: Axes, image: Mapping[str, Any], temperature: str, looks: Mapping[str, Look]) -> None:
    networks = image["probability"]
    thick = 0.84 / len(networks)
    for place, (name, shares) in enumerate(networks.items()):
        heights = [index + (place - (len(networks) - 1) / 2) * thick for index in range(len(image["classes"]))]
        axes.barh(
            heights,
            shares[temperature],
            thick,
            color=looks[name].colour,
            hatch=HATCHES[place % len(HATCHES)],
            edgecolor=PAPER,
            linewidth=0.3,
            label=name,
        )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=3)


def draw_entropy(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Mean entropy over the temperature."""
    with drawing(1, 1, height=3.4, width=5.2) as sketch:
        (axes,) = sketch.flat
        for name, values in numbers["entropy"].items():
            line(axes, numbers["temperatures"], values, looks[name], name)
        axes.axhline(numbers["most"], color=FAINT, linewidth=1)
        axes.text(numbers["temperatures"][0], numbers["most"], "uniform", va="bottom", color=INK, fontsize=9.5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers["temperatures"], [f"{t:g}" for t in numbers["temperatures"]])
        axes.minorticks_off()
        axes.set_ylim(0, numbers["most"] * 1.1)
        axes.set_xlabel("temperature T")
        axes.set_ylabel("entropy of the softmax (nats)")
        sketch.legend()
        return sketch.svg()
