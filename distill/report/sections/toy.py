"""The four-class case in which plain KL prefers the wrong student.

Figure 2 of "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), temperature 1.
It is computed with the losses that train students: the paper's numbers need the unbiased standard deviation.
"""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.axes import Axes

from distill.losses import kd, standardize, zscore_kd
from distill.report.drawing import HATCHES, SMALL, drawing, style_of
from distill.report.page import FAINT, INK, Block, Figure, PageTable, Text, number_columns, text_columns
from distill.report.runs import Report
from distill.tables.values import number

TITLE = "Four classes in which plain KL prefers the wrong student"
CLASSES = ("Cat", "Dog", "Bird", "Frog")
TEMPERATURE = 1.0
TEACHER = (-1.5, 1.5, 0.5, -0.5)
STUDENTS = {"student 1": (-1.2, 0.6, 0.8, -0.2), "student 2": (-0.15, 0.15, 0.05, -0.05)}
_WHY = (
    "A construction of the Z-score paper (its figure 2), not a measurement. The logits of student 1 are close to the "
    "teacher's, but it predicts Bird where the teacher predicts Dog; student 2 predicts Dog, with a tenth of the "
    "teacher's logits. Plain KL is smaller for student 1. After the z-score, with the unbiased standard deviation, "
    "student 2 equals the teacher."
)
# not the colours of methods: these students were not trained
_BARS = {"teacher": (INK, ""), "student 1": ("#F0E442", HATCHES[1]), "student 2": (FAINT, "")}


def toy_case() -> dict[str, Any]:
    """Logits, predictions and softmax of the teacher and two students, raw and after the z-score, and both losses."""
    logits = {"teacher": TEACHER, **STUDENTS}
    return {
        "classes": list(CLASSES),
        "temperature": TEMPERATURE,
        "networks": {name: _network(torch.tensor([each], dtype=torch.float64)) for name, each in logits.items()},
    }


def _network(logits: torch.Tensor) -> dict[str, Any]:
    teacher = torch.tensor([TEACHER], dtype=torch.float64)
    scores = standardize(logits)
    return {
        "logits": logits[0].tolist(),
        "prediction": CLASSES[int(logits.argmax())],
        "probability": (100 * logits.softmax(dim=1))[0].tolist(),
        "zscores": scores[0].tolist(),
        "zscore_probability": (100 * scores.softmax(dim=1))[0].tolist(),
        "kd": float(kd(logits, teacher, temperature=TEMPERATURE)),
        "zscore_kd": float(zscore_kd(logits, teacher, temperature=TEMPERATURE)),
    }


def draw_toy(numbers: Mapping[str, Any]) -> str:
    """Logits, their z-scores, and the value of each loss for the two students."""
    with drawing(3, 3, height=3.5, width=8.6, width_ratios=[1.25, 1.25, 1]) as drawn:
        logits, scores, losses = drawn.panels
        _bars(logits, numbers, "logits")
        _bars(scores, numbers, "zscores")
        logits.set_ylabel("logit")
        scores.set_ylabel("z-score")
        _losses(losses, numbers["networks"])
        drawn.legend()
        return drawn.svg()


def _bars(axes: Axes, numbers: Mapping[str, Any], key: str) -> None:
    for n, (name, each) in enumerate(numbers["networks"].items()):
        colour, hatch = _BARS[name]
        x = [index + (n - 1) * 0.27 for index in range(len(CLASSES))]
        axes.bar(x, each[key], 0.27, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.6, label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.grid(axis="x", visible=False)


def _losses(axes: Axes, networks: Mapping[str, Any]) -> None:
    for n, (loss, label) in enumerate((("kd", "KL, plain"), ("zscore_kd", "KL after the z-score"))):
        values = [networks[name][loss] for name in STUDENTS]
        x = [index + (n - 0.5) * 0.38 for index in range(len(values))]
        bars = axes.bar(x, values, 0.36, color=style_of(loss).colour, label=label)
        axes.bar_label(bars, labels=[f"{value:.3f}" for value in values], padding=2, fontsize=SMALL)
    axes.set_xticks(range(len(STUDENTS)), list(STUDENTS))
    axes.set_ylabel("loss (nats), T = 1")
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left")


def blocks(_: Report) -> list[Block]:
    """The same in every report."""
    numbers = toy_case()
    columns = [
        *text_columns("network", "logits", "predicts", "z-scores"),
        *number_columns("KL, plain", "KL after z-score"),
    ]
    rows = [
        (
            name,
            ", ".join(number(value, 2) for value in each["logits"]),
            each["prediction"],
            ", ".join(number(value, 3) for value in each["zscores"]),
            number(each["kd"], 4),
            number(each["zscore_kd"], 4),
        )
        for name, each in numbers["networks"].items()
    ]
    classes = ", ".join(CLASSES)
    plain, zscore = (
        ", ".join(f"{name} {numbers['networks'][name][loss]:.3f}" for name in STUDENTS) for loss in ("kd", "zscore_kd")
    )
    return [
        Text(_WHY),
        Figure(
            "toy",
            "Logits, their z-scores, and the two losses at T = 1.",
            f"Bar charts for the classes {classes}. Plain KL: {plain}. After the z-score: {zscore}.",
            numbers,
            draw_toy(numbers),
        ),
        PageTable(
            f"The same in numbers, in the order {classes}; KL in nats.",
            columns,
            rows,
        ),
    ]
