"""Dots for cells, bands for curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from distill.report.figures.drawing import Sketch, drawing, line
from distill.report.looks import INK, PAPER, Look, look_of

ACROSS = 2


def looks(lines: Sequence[Mapping[str, Any]]) -> list[Look]:
    """The look of each line of a column; further lines of one preset keep its colour."""
    presets = [each["preset"] for each in lines]
    return [look_of(preset, occurrence=presets[:place].count(preset)) for place, preset in enumerate(presets)]


def draw_cells(numbers: Mapping[str, Any]) -> str:
    """A panel for every column, a row for every line: seeds, mean with deviation, and what was published."""
    columns = numbers["columns"]
    rows = -(-len(columns) // ACROSS) if len(columns) > 1 else 1
    most = max(map(len, columns.values()))
    with drawing(rows, min(ACROSS, len(columns)), height=0.7 + rows * (0.9 + 0.36 * most), width=8.6) as sketch:
        for axes, (name, lines) in zip(sketch.flat, columns.items(), strict=False):
            _cells(axes, lines)
            axes.set_title(name)
        sketch.keep(len(columns))
        _key(sketch, published=any(each["published"] is not None for lines in columns.values() for each in lines))
        return sketch.svg()


def _cells(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for place, (each, look) in enumerate(zip(lines, looks(lines), strict=True)):
        values = list(each["values"].values())
        axes.plot(values, [place] * len(values), "o", color=look.colour, ms=4.5, mec=PAPER, mew=0.6, zorder=3)
        bar = {"xerr": each["deviation"]} if each["deviation"] is not None else {}
        axes.errorbar(each["mean"], place, **bar, fmt="|", color=look.colour, ms=15, mew=2.4, elinewidth=1.6, capsize=3)
        if each["published"] is not None:
            axes.plot(each["published"], place, "D", mfc="none", mec=INK, ms=7, mew=1.3)
    axes.set_yticks(range(len(lines)), [each["label"] for each in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlabel("accuracy after the last epoch (%)")


def _key(sketch: Sketch, *, published: bool) -> None:
    axes = sketch.flat[0]
    axes.plot([], [], "o", color=INK, ms=4.5, label="a run of ours")
    axes.plot([], [], "|", color=INK, ms=15, mew=2.4, label="mean, ± deviation")
    if published:
        axes.plot([], [], "D", mfc="none", mec=INK, ms=7, mew=1.3, label="published (its own epoch rule)")
    sketch.legend()


def draw_bands(numbers: Mapping[str, Any]) -> str:
    """A panel for every column: mean by epoch, and the deviation around it where there are several seeds."""
    columns = numbers["columns"]
    across = min(ACROSS, len(columns))
    rows = -(-len(columns) // across)
    with drawing(rows, across, height=0.9 + 3.4 * rows, width=8.6 if across > 1 else 6.4) as sketch:
        for axes, (name, lines) in zip(sketch.flat, columns.items(), strict=False):
            for each, look in zip(lines, looks(lines), strict=True):
                line(axes, each["epoch"], each["mean"], look, f"{each['label']}, n = {each['n']}")
                spread = [value or 0.0 for value in each["deviation"]]
                low = [mean - s for mean, s in zip(each["mean"], spread, strict=True)]
                high = [mean + s for mean, s in zip(each["mean"], spread, strict=True)]
                axes.fill_between(each["epoch"], low, high, color=look.colour, alpha=0.2, linewidth=0)
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.set_ylabel("accuracy (%)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="lower right")
        sketch.keep(len(columns))
        return sketch.svg()
