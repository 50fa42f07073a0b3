"""A curve for one swept value, a map for two, points for more or for none."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from distill.report.figures.drawing import HEAT, Sketch, drawing, line
from distill.report.looks import INK, PAPER, Look, look_of
from distill.report.sweeps.tried import is_number
from distill.tables.values import to_text

Curve = Mapping[str, Any]
ACROSS = 2
_LINE = 0.2  # inches of a legend's line
_DENSE = 0.5  # of the cells of a grid: with fewer it is no grid but what a search proposed


def draw_sweep(numbers: Mapping[str, Any]) -> str:
    """The drawing that the number of swept keys asks for; `numbers` has at least one panel."""
    keys = numbers["keys"]
    if not keys:
        return draw_methods(numbers)
    if len(keys) == 2:
        return draw_maps(numbers)
    return draw_curves(numbers)


def looks(curves: Sequence[Curve]) -> list[Look]:
    """The look of each curve of a panel; further ones of a preset keep its colour."""
    presets = [each["preset"] for each in curves]
    return [look_of(preset, occurrence=presets[:place].count(preset)) for place, preset in enumerate(presets)]


def draw_curves(numbers: Mapping[str, Any]) -> str:
    """A row for every panel, in it an axis for every key: mean by value, the deviation over seeds around it."""
    keys, panels = numbers["keys"], numbers["panels"]
    across = len(keys)
    width = 6.4 if across == 1 else 9.0
    height = sum(3.7 + _LINE * len(panel["curves"]) for panel in panels)
    with drawing(len(panels), across, height=height, width=width, sharey="row") as sketch:
        for row, panel in zip(sketch.axes, panels, strict=True):
            for place, (axes, key) in enumerate(zip(row, keys, strict=True)):
                _axis(axes, panel, place, joined=len(keys) == 1, log=key in numbers["logarithmic"])
                axes.set_xlabel(key)
            row[0].set_ylabel(_accuracy(panel))
            sketch.legend_above(row[0], _title(panel))
        return sketch.svg()


def _axis(axes: Axes, panel: Mapping[str, Any], place: int, *, joined: bool, log: bool) -> None:
    """Accuracy over one key; points alone where other keys change too. Words stand at equal distances."""
    values = list(dict.fromkeys(cell["values"][place] for curve in panel["curves"] for cell in curve["cells"]))
    measured = all(map(is_number, values))
    where = {value: value if measured else rank for rank, value in enumerate(values)}
    for curve, look in zip(panel["curves"], looks(panel["curves"]), strict=True):
        x = [where[cell["values"][place]] for cell in curve["cells"]]
        mean = [cell["mean"] for cell in curve["cells"]]
        line(axes, x, mean, look, f"{curve['label']}, {_seeds(curve)}", markevery=1, **({} if joined else {"ls": ""}))
        if joined:
            low, high = zip(*(_band(cell) for cell in curve["cells"]), strict=True)
            axes.fill_between(x, low, high, color=look.colour, alpha=0.2, linewidth=0)
    cells = [cell for curve in panel["curves"] for cell in curve["cells"] if cell["chosen"]]
    _ring(axes, [(where[cell["values"][place]], cell["mean"]) for cell in cells])
    if log:
        _logarithmic(axes.xaxis)
    if not measured:
        axes.set_xticks(range(len(values)), [to_text(value) for value in values])
    elif len(values) <= 8 and not log:
        axes.set_xticks(values, [to_text(value) for value in values])


def _ring(axes: Axes, chosen: Sequence[tuple[Any, float]]) -> None:
    if chosen:
        style: dict[str, Any] = {"ls": "", "mfc": "none", "mec": INK, "ms": 13, "mew": 1.6, "zorder": 4}
        x, y = zip(*chosen, strict=True)
        axes.plot(x, y, marker="o", label="chosen on held-out images", **style)


def _logarithmic(axis: Axis) -> None:
    """With numbers as people write them: 0.5, 1, 2, 5, 10."""
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_maps(numbers: Mapping[str, Any]) -> str:
    """A map for every curve, all of a panel on one scale; points in colours where there is no grid."""
    panels = numbers["panels"]
    spaces = [(panel, curve) for panel in panels for curve in panel["curves"]]
    across = min(ACROSS, len(spaces))
    rows = -(-len(spaces) // across)
    width = 9.0 if across > 1 else 6.0
    with drawing(rows, across, height=0.5 + 3.7 * rows, width=width) as sketch:
        for axes, (panel, curve) in zip(sketch.flat, spaces, strict=False):
            means = [cell["mean"] for each in panel["curves"] for cell in each["cells"]]
            scale = (min(means), max(means) if max(means) > min(means) else min(means) + 1)
            image = (_map if _is_grid(curve) else _points)(axes, curve, scale, numbers)
            title = f"{curve['label']}, {_seeds(curve)}"
            axes.set_title(f"{title}\n{_title(panel)}" if len(panels) > 1 else title)
            axes.set_xlabel(numbers["keys"][1])
            axes.set_ylabel(numbers["keys"][0])
            sketch.figure.colorbar(image, ax=axes, label=_accuracy(panel), fraction=0.05)
        for axes in sketch.flat[len(spaces) :]:
            axes.set_visible(False)
        return sketch.svg()


def _is_grid(curve: Curve) -> bool:
    down, along = _values(curve)
    return len(curve["cells"]) >= _DENSE * len(down) * len(along)


def _values(curve: Curve) -> tuple[list[Any], list[Any]]:
    """The values of both keys, in order."""
    both = [list(dict.fromkeys(cell["values"][place] for cell in curve["cells"])) for place in (0, 1)]
    first, second = (sorted(each, key=lambda v: (isinstance(v, str), v)) for each in both)
    return first, second


def _map(axes: Axes, curve: Curve, scale: tuple[float, float], _: Mapping[str, Any]) -> Any:
    down, along = _values(curve)
    table = [[float("nan")] * len(along) for _ in down]
    for cell in curve["cells"]:
        table[down.index(cell["values"][0])][along.index(cell["values"][1])] = cell["mean"]
    image = axes.imshow(table, cmap=HEAT, interpolation="none", aspect="auto", vmin=scale[0], vmax=scale[1])
    axes.grid(False)
    for cell in curve["cells"]:
        at = along.index(cell["values"][1]), down.index(cell["values"][0])
        bright = (cell["mean"] - scale[0]) / (scale[1] - scale[0]) > 0.5
        spread = "" if cell["deviation"] is None else f"\n± {cell['deviation']:.2f}"
        colour = "#000000" if bright else "#ffffff"
        axes.text(*at, f"{cell['mean']:.2f}{spread}", ha="center", va="center", color=colour, fontsize=9)
        if cell["chosen"]:
            _frame(axes, at)
    axes.set_xticks(range(len(along)), [to_text(value) for value in along])
    axes.set_yticks(range(len(down)), [to_text(value) for value in down])
    return image


def _frame(axes: Axes, at: tuple[int, int]) -> None:
    """Two lines, one of which is seen on any colour."""
    left, top, size = at[0] - 0.46, at[1] - 0.46, 0.92
    x, y = [left, left + size, left + size, left, left], [top, top, top + size, top + size, top]
    for colour, width in (("#000000", 5.0), ("#ffffff", 2.0)):
        axes.plot(x, y, color=colour, linewidth=width, solid_joinstyle="miter")


def _points(axes: Axes, curve: Curve, scale: tuple[float, float], numbers: Mapping[str, Any]) -> Any:
    cells = curve["cells"]
    x, y = [cell["values"][1] for cell in cells], [cell["values"][0] for cell in cells]
    colours = [cell["mean"] for cell in cells]
    image = axes.scatter(x, y, c=colours, cmap=HEAT, vmin=scale[0], vmax=scale[1], s=60, edgecolors=PAPER, zorder=3)
    for cell in cells:
        if cell["chosen"]:
            axes.plot(cell["values"][1], cell["values"][0], "o", mfc="none", mec=INK, ms=15, mew=1.8, zorder=4)
    for key, axis in zip(numbers["keys"], (axes.yaxis, axes.xaxis), strict=True):
        if key in numbers["logarithmic"]:
            _logarithmic(axis)
    return image


def draw_methods(numbers: Mapping[str, Any]) -> str:
    """A panel for each student, a row for each method: its seeds, mean and deviation."""
    panels = numbers["panels"]
    lines = [1 + len(panel["curves"]) for panel in panels]
    height = 0.9 + sum(0.6 + 0.36 * each for each in lines)
    with drawing(len(panels), 1, height=height, width=7.2, height_ratios=lines) as sketch:
        for axes, panel in zip(sketch.flat, panels, strict=True):
            _methods(axes, panel)
            axes.set_title(_title(panel))
            axes.set_xlabel(_accuracy(panel))
        _key(sketch)
        return sketch.svg()


def _methods(axes: Axes, panel: Mapping[str, Any]) -> None:
    curves = panel["curves"]
    for place, (curve, look) in enumerate(zip(curves, looks(curves), strict=True)):
        for cell in curve["cells"]:
            values = list(cell["by_seed"].values())
            axes.plot(values, [place] * len(values), "o", color=look.colour, ms=4.5, mec=PAPER, mew=0.6, zorder=3)
            bar = {} if cell["deviation"] is None else {"xerr": cell["deviation"]}
            style: dict[str, Any] = {"fmt": "|", "ms": 15, "mew": 2.4, "elinewidth": 1.6, "capsize": 3}
            axes.errorbar(cell["mean"], place, **bar, color=look.colour, **style)
    axes.set_yticks(range(len(curves)), [f"{curve['label']}, {_seeds(curve)}" for curve in curves])
    axes.set_ylim(len(curves) - 0.4, -0.6)


def _key(sketch: Sketch) -> None:
    axes = sketch.flat[0]
    axes.plot([], [], "o", color=INK, ms=4.5, label="a seed")
    axes.plot([], [], "|", color=INK, ms=15, mew=2.4, label="mean, ± deviation")
    sketch.legend()


def _band(cell: Mapping[str, Any]) -> tuple[float, float]:
    spread = cell["deviation"] or 0.0
    return cell["mean"] - spread, cell["mean"] + spread


def _seeds(curve: Curve) -> str:
    counts = sorted({cell["n"] for cell in curve["cells"]})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _accuracy(panel: Mapping[str, Any]) -> str:
    return f"accuracy on {panel['measured_on']}, %"


def _title(panel: Mapping[str, Any]) -> str:
    return f"{panel['student']}, {panel['dataset']}"
