"""How figures are drawn: one style for all of them, the style of each method, and figures as SVG.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which any colour vision can distinguish.
Black is the ink of the page, and their yellow, too pale for a line, is replaced by a grey.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from distill.report.page import FAINT, GRID, INK, PAPER
from distill.report.runs import Report
from distill.runs.escapes import escaped

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
GREY = "#7F7F7F"
COLOURS = (GREY, BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE)
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
HATCHES = ("", "//", "\\\\", "--", "xx", "||")  # few strokes: they decide the size of the page
HEAT = "cividis"  # reads the same with any colour vision, and in grey
WIDTH = 7.2  # inches: with letters of 10.5 points a figure can be read at half its size
SMALL = 9.5  # points: tick labels, legends, notes
_LETTER, _HANDLE = 0.085, 0.72  # inches: a letter in a legend, and the space around a label

# The position of a preset decides its style: add new ones at the end.
_LISTED = """
    ce kd zscore_kd kd_w9_t2 zscore_kd_w09 kd_w09_t2 dkd
    label_smoothing kd_soft_only zscore_dkd mlkd ctkd dist nkd
    logit_mse soft_ce zscore_dist zscore_mlkd zscore_ctkd ctkd_instance mlkd_public
    tf_kd ttm wttm wsld crd review_kd fitnet
    at rkd sp cc pkt vid nst
    ofd ab ft fsp simkd cat_kd mixture
    ablation/mean_only ablation/deviation_only ablation/population_deviation
    ablation/student_only ablation/teacher_only
"""
_PRESETS = _LISTED.split()

_RC: dict[Any, Any] = {
    "backend": "svg",
    "text.parse_math": False,  # a name with two dollars is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "distill",
    "font.family": "DejaVu Sans",
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 10.5),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), SMALL),
    **dict.fromkeys(("axes.labelcolor", "axes.titlecolor", "text.color", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.9,
    "lines.markersize": 5,
}
# Fonts as wide as DejaVu Sans: the layout still fits where DejaVu Sans is not installed.
_FONTS = "'DejaVu Sans', Verdana, sans-serif"


@dataclass(frozen=True)
class Style:
    """A colour (#RRGGBB, or a placeholder of the page), a dash and a marker, as matplotlib writes them."""

    colour: str
    dash: str
    marker: str


Styles = Mapping[str, Style]  # by the label of the run
TEACHER_STYLE = Style(INK, "--", "s")


def style_of(preset: str, *, occurrence: int = 0) -> Style:
    """The style of a loss preset, equal in all figures; its `imagenet/` and `_paper` forms have the same colour.

    `occurrence` counts the runs of one preset in a figure: later ones keep the colour and change dash and marker.
    The style of a preset that is not listed follows from its name.
    """
    method = preset.removeprefix("imagenet/").removesuffix("_paper")
    position = _PRESETS.index(method) if method in _PRESETS else len(_PRESETS) + crc32(method.encode()) % 1000
    row = position // len(COLOURS)
    style = Style(COLOURS[position % len(COLOURS)], DASHES[row % len(DASHES)], MARKERS[(position + row) % len(MARKERS)])
    shift = occurrence + preset.endswith("_paper") + 2 * preset.startswith("imagenet/")
    if not shift:
        return style
    dash, marker = DASHES.index(style.dash) + shift, MARKERS.index(style.marker) + shift
    return replace(style, dash=DASHES[dash % len(DASHES)], marker=MARKERS[marker % len(MARKERS)])


def styles_of(presets: Sequence[str]) -> list[Style]:
    """The style of each run of a figure, given the presets of all of them in order."""
    return [style_of(preset, occurrence=presets[:n].count(preset)) for n, preset in enumerate(presets)]


class Drawing:
    """A figure with its panels; `panels` are the axes in use, row by row."""

    def __init__(self, figure: Figure, panels: Sequence[Axes], across: int) -> None:
        self.figure, self.panels, self.across = figure, panels, across

    @property
    def rows(self) -> list[Sequence[Axes]]:
        """The panels of each row, left to right."""
        return [self.panels[start : start + self.across] for start in range(0, len(self.panels), self.across)]

    @property
    def lowest(self) -> Sequence[Axes]:
        """The panels with none below them, where the labels of a shared x axis belong."""
        return self.panels[-self.across :]

    def label(self, x: str, y: str) -> None:
        """Label the x axis of the lowest panels and the y axis of the leftmost ones."""
        for row in self.rows:
            row[0].set_ylabel(y)
        for axes in self.lowest:
            axes.set_xlabel(x)

    def legend(self, *, axes: Axes | None = None) -> None:
        """One legend above all panels, of what is in `axes` (default: the first), to be read row by row."""
        entries, across = self._entries(axes or self.panels[0])
        self.figure.legend(*zip(*entries, strict=True), loc="outside upper left", ncols=across)

    def legend_above(self, axes: Axes, title: str) -> None:
        """The legend of `axes` above them, where it covers no line, with `title` on top."""
        entries, across = self._entries(axes)
        place: dict[str, Any] = {"bbox_to_anchor": (0, 1), "borderaxespad": 0.4, "borderpad": 0, "alignment": "left"}
        legend = axes.legend(*zip(*entries, strict=True), loc="lower left", ncols=across, title=title, **place)
        legend.get_title().set_fontsize(_RC["axes.titlesize"])

    def _entries(self, axes: Axes) -> tuple[list[tuple[Any, str]], int]:
        """Handles and labels ordered for a legend of as many columns as fit, and their number."""
        handles, labels = axes.get_legend_handles_labels()

        def width(across: int) -> float:
            return sum(max(map(len, labels[column::across])) * _LETTER + _HANDLE for column in range(across))

        fitting = (n for n in range(len(labels), 1, -1) if width(n) <= self.figure.get_figwidth())
        across = next(fitting, 1)
        rows = -(-len(labels) // across)
        # matplotlib fills column by column: an empty entry stands for each one missing in the last row
        order = [row * across + column for column in range(across) for row in range(rows)]
        empty = (Line2D([], [], alpha=0), "")
        return [(handles[n], labels[n]) if n < len(labels) else empty for n in order], across

    def svg(self) -> str:
        """The SVG document without date and creator: equal data give equal bytes. Call it inside the block.

        It may contain names chosen by others: their control characters are escaped.
        """
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # text is written as text, so the program that shows the document needs the fonts, not this one
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
        return escaped(text, keep="\n").replace("'DejaVu Sans'", _FONTS)


@contextmanager
def drawing(
    count: int, across: int, *, height: float, margin: float = 0.0, width: float = WIDTH, **layout: Any
) -> Iterator[Drawing]:
    """A figure of `count` panels in rows of `across`, in the common style.

    It is `width` inches wide, `margin` plus `height` for each row high; `layout` goes to matplotlib's `subplots`.
    """
    rows = -(-count // across)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_RC}):
        figure = Figure(figsize=(width, margin + height * rows), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, across, squeeze=False, **layout).ravel().tolist()
        for unused in axes[count:]:
            unused.set_visible(False)
        drawn = Drawing(figure, axes[:count], across)
        for each in drawn.lowest if count < len(axes) else ():
            each.tick_params(labelbottom=True)
        yield drawn


def square(count: int) -> int:
    """How many of `count` panels stand in a row: at most three, and four make a square."""
    return 2 if count == 4 else min(3, count)


def line(axes: Axes, x: Sequence[Any], y: Sequence[Any], style: Style, label: str, **changes: Any) -> None:
    """A line in a run's style, without the points that are None; of many points only some have markers."""
    known = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None]
    kind: dict[str, Any] = {"color": style.colour, "linestyle": style.dash, "marker": style.marker, "label": label}
    kind["markevery"] = max(1, len(known) // 20)
    axes.plot([a for a, _ in known], [b for _, b in known], **{**kind, **changes})


def band(axes: Axes, x: Sequence[Any], mean: Sequence[float], spread: Sequence[float | None], colour: str) -> None:
    """A band of `spread` to either side of the mean, with a gap where it is None."""
    half = [math.nan if value is None else value for value in spread]
    low = [m - s for m, s in zip(mean, half, strict=True)]
    high = [m + s for m, s in zip(mean, half, strict=True)]
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)


def dots(axes: Axes, y: int, values: Sequence[float], mean: float, deviation: float | None, colour: str) -> None:
    """A row of dots, one for each run, with their mean and, where there is one, their deviation."""
    axes.plot(values, [y] * len(values), "o", color=colour, ms=4.5, mec=PAPER, mew=0.6, zorder=3)
    axes.errorbar(mean, y, xerr=deviation, fmt="|", color=colour, ms=15, mew=2.4, elinewidth=1.6, capsize=3)


def label_dots(axes: Axes, labels: Sequence[str]) -> None:
    """Labels of the rows of dots, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def dots_legend(drawn: Drawing, run: str, *, published: bool = False) -> None:
    """The legend of dots above all panels; `run` is what a dot is, `published` adds the published number."""
    axes = drawn.panels[0]
    axes.plot([], [], "o", color=INK, ms=4.5, label=run)
    axes.plot([], [], "|", color=INK, ms=15, mew=2.4, label="mean, ± standard deviation")
    if published:
        axes.plot([], [], "D", mfc="none", mec=INK, ms=7, mew=1.3, label="published (its own epoch rule)")
    drawn.legend()


def steps(axes: Axes, edges: Any, heights: Any, style: Style, label: str) -> None:
    """A histogram as an outline, so that several can overlap."""
    axes.stairs(heights, edges, baseline=None, color=style.colour, linestyle=style.dash, linewidth=1.9, label=label)


def heat(axes: Axes, values: Any, *, most: float) -> Any:
    """A matrix from 0 to `most` as colours on a square-root scale, row 0 on top, unsmoothed."""
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    return axes.imshow(values, cmap=HEAT, interpolation="none", aspect="equal", norm=PowerNorm(0.5, 0, most))


def whole_epochs(axes: Axes) -> None:
    """An x axis of epochs, with ticks at whole numbers."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def run_styles(report: Report) -> Styles:
    """The style of every run of a report."""
    students = zip(report.students, styles_of([each.preset for each in report.students]), strict=True)
    teacher = {report.teacher.label: TEACHER_STYLE} if report.teacher else {}
    return teacher | {each.label: style for each, style in students}
