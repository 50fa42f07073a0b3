"""Agreement with the teacher, and divergence from it."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes

from distill.report.figures.drawing import drawing
from distill.report.looks import Look

_PANELS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], float]], ...] = (
    ("top-1 agreement (%)", ".1f", lambda each: each["agreement"]),
    ("KL, T = 1 (nats)", ".3f", lambda each: each["kl"]["1"]),
    ("KL, T = 4 (nats)", ".3f", lambda each: each["kl"]["4"]),
    ("KL after z-score,\nT = 1 (nats)", ".3f", lambda each: each["kl_after_zscore"]["1"]),
)


def draw_fidelity(numbers: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Bars for every student, a panel for every measure."""
    students = numbers["students"]
    with drawing(1, len(_PANELS), height=1.25 + 0.42 * len(students), width=8.6, sharey=True) as sketch:
        for axes, (title, digits, value) in zip(sketch.flat, _PANELS, strict=True):
            _bars(axes, {name: value(each) for name, each in students.items()}, digits, looks)
            axes.set_xlabel(title)
        sketch.flat[0].invert_yaxis()
        return sketch.svg()


def _bars(axes: Axes, values: Mapping[str, float], digits: str, looks: Mapping[str, Look]) -> None:
    colours = [looks[name].colour for name in values]
    bars = axes.barh(range(len(values)), list(values.values()), 0.62, color=colours)
    axes.bar_label(bars, labels=[f"{value:{digits}}" for value in values.values()], padding=3, fontsize=9.5)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_xlim(0, 1.42 * max(*values.values(), 1e-9))
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=3)
