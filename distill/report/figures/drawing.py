"""One style for all figures, and from a matplotlib figure to SVG."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from distill.report.looks import FAINT, GRID, INK, Look

WIDTH = 7.2  # inches: with letters of 10.5 points, figures can be read at half their size
_LETTER, _HANDLE = 0.085, 0.72  # inches of a letter of a legend, and of what stands around it
HEAT = "cividis"  # reads the same to all eyes, and in grey

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distill",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.9,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# drawn in bars: few strokes, for a page must stay small
HATCHES = ("", "//", "\\\\", "--", "xx", "||")
# as wide as DejaVu Sans, so that what was laid out with it fits where it is not installed
_FONTS = "'DejaVu Sans', Verdana, sans-serif"


@contextmanager
def drawing(rows: int, across: int, *, height: float, width: float = WIDTH, **layout: Any) -> Iterator["Sketch"]:
    """A grid of axes in the common style; `height` and `width` are inches, `layout` is for matplotlib's subplots."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "svg"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, across, squeeze=False, **layout)
        yield Sketch(figure, [list(row) for row in axes])


class Sketch:
    """A figure in the making: `axes` by row; `svg()` is what it became, to be asked inside the block."""

    def __init__(self, figure: Figure, axes: list[list[Axes]]) -> None:
        self.figure, self.axes = figure, axes

    @property
    def flat(self) -> list[Axes]:
        """The axes, row by row."""
        return [each for row in self.axes for each in row]

    def legend(self, *, axes: Axes | None = None) -> None:
        """One legend above all axes, of what is in `axes` (the first), row by row."""
        filled, across = self._entries(axes or self.flat[0])
        self.figure.legend(*zip(*filled, strict=True), loc="outside upper left", ncols=across)

    def legend_above(self, axes: Axes, title: str) -> None:
        """The legend of `axes` above them, where no line can run into it, with `title` on top."""
        filled, across = self._entries(axes)
        style: dict[str, Any] = {"bbox_to_anchor": (0, 1), "borderaxespad": 0.4, "borderpad": 0, "alignment": "left"}
        legend = axes.legend(*zip(*filled, strict=True), loc="lower left", ncols=across, title=title, **style)
        legend.get_title().set_fontsize(_STYLE["axes.titlesize"])

    def _entries(self, axes: Axes) -> tuple[list[tuple[Any, str]], int]:
        """Handles and labels in the order in which so many columns read row by row."""
        handles, labels = axes.get_legend_handles_labels()
        fitting = (n for n in range(len(labels), 1, -1) if _width(labels, across=n) <= self.figure.get_figwidth())
        across = next(fitting, 1)
        rows = -(-len(labels) // across)
        # matplotlib fills columns: an empty entry keeps the place of one that is missing in the last row
        order = [row * across + column for column in range(across) for row in range(rows)]
        nothing = (Line2D([], [], alpha=0), "")
        return [(handles[place], labels[place]) if place < len(labels) else nothing for place in order], across

    def keep(self, count: int) -> list[Axes]:
        """Hide all axes but the first `count`; returns those with nothing below them, which now show their numbers."""
        for each in self.flat[count:]:
            each.set_visible(False)
        lowest = self.flat[max(0, count - len(self.axes[0])) : count]
        for each in lowest:
            each.tick_params(labelbottom=True)
        return lowest

    def svg(self) -> str:
        """The SVG document, without date and name of the program."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        return text.replace("'DejaVu Sans'", _FONTS)


def _width(labels: list[str], *, across: int) -> float:
    """About how many inches a legend takes that has so many columns."""
    columns = (labels[place::across] for place in range(across))
    return sum(max(map(len, column)) * _LETTER + _HANDLE for column in columns)


def beside(count: int) -> int:
    """How many panels stand beside each other: four make a square."""
    return 2 if count == 4 else min(3, count)


def line(axes: Axes, x: Any, y: Any, look: Look, label: str, **changes: Any) -> None:
    """A line in a network's look; markers are thinned where the points are many."""
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "label": label}
    axes.plot(x, y, **{**style, "markevery": max(1, len(x) // 20), **changes})


def steps(axes: Axes, edges: Any, heights: Any, look: Look, label: str) -> None:
    """A histogram as an outline, so that several can lie over each other."""
    axes.stairs(heights, edges, baseline=None, color=look.colour, linestyle=look.dash, linewidth=1.9, label=label)


def heat(axes: Axes, values: Any, *, most: float) -> Any:
    """A matrix from 0 to `most` as colours on a square-root scale, row 0 on top, unsmoothed."""
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    return axes.imshow(values, cmap=HEAT, interpolation="none", aspect="equal", norm=PowerNorm(0.5, 0, most))
