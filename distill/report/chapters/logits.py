"""Sizes of logits."""

from distill.report.blocks import Chapter, Figure, Table, Text, columns, number
from distill.report.chapters.missing import no_answers
from distill.report.figures.spread import draw_joint, draw_spread
from distill.report.numbers.spread import logit_spread, mean_and_deviation
from distill.report.subjects import Compared

TITLE = "Logits"


def chapter(compared: Compared) -> Chapter:
    """Histograms, ranges, and mean against deviation."""
    if reason := no_answers(compared):
        return Chapter("logits", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    numbers, joint = logit_spread(compared.logits, compared.images.labels), mean_and_deviation(compared.logits)
    deviations = ", ".join(f"{name} {each['mean_deviation']:.2f}" for name, each in numbers["summary"].items())
    headers, numeric = columns(
        {
            "network": False,
            "smallest": True,
            "largest": True,
            "mean": True,
            "mean range": True,
            "mean deviation": True,
            "mean of the target's": True,
        }
    )
    keys = ("min", "max", "mean", "mean_range", "mean_deviation", "mean_target")
    rows = tuple((name, *(number(each[key], 3) for key in keys)) for name, each in numbers["summary"].items())
    return Chapter(
        "logits",
        TITLE,
        (
            Figure(
                "logits",
                "Densities of all logits, and of each image's range (largest minus smallest); the axis is logarithmic.",
                f"Histograms as outlines. Mean deviation of an image's logits: {deviations}.",
                numbers,
                draw_spread(numbers, compared.looks),
            ),
            Table(
                "Logits over all images; range and deviation are those of one image's logits.", headers, rows, numeric
            ),
            Figure(
                "mean_deviation",
                "Images by the mean and the deviation (1/K) of their logits: figure 5 of the Z-score paper.",
                f"Two-dimensional histograms, one for each network. Mean deviations: {deviations}.",
                joint,
                draw_joint(joint),
            ),
        ),
    )
