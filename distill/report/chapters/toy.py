"""The case that motivates the z-score."""

from distill.report.blocks import Chapter, Figure, Table, Text, columns, number
from distill.report.figures.toy import draw_toy
from distill.report.numbers.toy import toy_case
from distill.report.subjects import Compared

TITLE = "Four classes in which plain KL prefers the wrong student"
_WHY = (
    "A construction of the Z-score paper (its figure 2), not a measurement. Student 1 is near the teacher in "
    "numbers but says Bird where the teacher says Dog; student 2 says Dog, at a tenth of the teacher's size. Plain "
    "KL is smaller for student 1. After the z-score, with the unbiased deviation, student 2 is the teacher exactly."
)


def chapter(compared: Compared) -> Chapter:
    """The paper's toy case, computed by the losses that train students; the same in every report."""
    numbers = toy_case()
    headers, numeric = columns(
        {
            "network": False,
            "logits": False,
            "says": False,
            "z-scores": False,
            "KL, plain": True,
            "KL after z-score": True,
        }
    )
    rows = tuple(
        (
            name,
            ", ".join(number(value, 2) for value in each["logits"]),
            each["prediction"],
            ", ".join(number(value, 3) for value in each["zscores"]),
            number(each["kd"], 4),
            number(each["zscore_kd"], 4),
        )
        for name, each in numbers["networks"].items()
    )
    classes = ", ".join(numbers["classes"])
    one, two = numbers["networks"]["student 1"], numbers["networks"]["student 2"]
    return Chapter(
        "toy",
        TITLE,
        (
            Text(_WHY),
            Figure(
                "toy",
                "Logits, their z-scores, and the two losses at T = 1.",
                f"Bar charts for the classes {classes}. Plain KL: student 1 {one['kd']:.3f}, student 2 "
                f"{two['kd']:.3f}. After the z-score: student 1 {one['zscore_kd']:.3f}, student 2 "
                f"{two['zscore_kd']:.3f}.",
                numbers,
                draw_toy(numbers),
            ),
            Table(f"The same in numbers, in the order {classes}; KL in nats.", headers, rows, numeric),
        ),
    )
