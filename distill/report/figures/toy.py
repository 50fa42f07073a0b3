"""The four-class case."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from distill.report.figures.drawing import HATCHES, drawing
from distill.report.looks import FAINT, INK, Look, look_of

# no method's colours: these students were not trained
_LOOKS = {"teacher": (INK, ""), "student 1": ("#F0E442", HATCHES[1]), "student 2": (FAINT, "")}
_LOSSES = {"kd": "KL, plain", "zscore_kd": "KL after the z-score"}


def draw_toy(numbers: Mapping[str, Any]) -> str:
    """Logits, their z-scores, and what each loss says of the two students."""
    with drawing(1, 3, height=3.5, width=8.6, width_ratios=[1.25, 1.25, 1]) as sketch:
        logits, scores, losses = sketch.flat
        _bars(logits, numbers, "logits")
        _bars(scores, numbers, "zscores")
        logits.set_ylabel("logit")
        scores.set_ylabel("z-score")
        _losses(losses, numbers["networks"])
        sketch.legend()
        return sketch.svg()


def _bars(axes: Axes, numbers: Mapping[str, Any], key: str) -> None:
    for place, (name, each) in enumerate(numbers["networks"].items()):
        colour, hatch = _LOOKS[name]
        at = [index + (place - 1) * 0.27 for index in range(len(numbers["classes"]))]
        axes.bar(at, each[key], 0.27, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.6, label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(numbers["classes"])), numbers["classes"])
    axes.grid(axis="x", visible=False)


def _losses(axes: Axes, networks: Mapping[str, Any]) -> None:
    students = [name for name in networks if name != "teacher"]
    for place, (loss, words) in enumerate(_LOSSES.items()):
        look: Look = look_of(loss)
        at = [index + (place - 0.5) * 0.38 for index in range(len(students))]
        bars = axes.bar(at, [networks[name][loss] for name in students], 0.36, color=look.colour, label=words)
        axes.bar_label(bars, labels=[f"{networks[name][loss]:.3f}" for name in students], padding=2, fontsize=9.5)
    axes.set_xticks(range(len(students)), students)
    axes.set_ylabel("loss (nats), T = 1")
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left")
