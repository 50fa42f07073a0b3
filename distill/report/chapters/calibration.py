"""Whether confidence is what it says."""

from typing import Any

from distill.report.blocks import Chapter, Figure, Table, Text, columns, number
from distill.report.chapters.missing import no_answers
from distill.report.figures.calibration import draw_reliability
from distill.report.numbers.calibration import BINS, calibration
from distill.report.subjects import Compared

TITLE = "Calibration"
WARNING = (
    "Z-score students' logits are small by design: only their relations were matched to the teacher's, never their "
    "size. Their raw confidence is therefore too low and misleads; compare methods after temperature scaling."
)
_HOW = (
    f"ECE has {BINS} bins of equal width on the largest probability. Temperature scaling is two-fold cross-fitting "
    f"on the {{images}}, dealt into two halves class by class: each half gets the temperature that has the least NLL "
    "on the other. No image is scored with a temperature that it helped to choose; but no other images were held back "
    "for it, so this compares methods and promises nothing for new data."
)


def chapter(compared: Compared) -> Chapter:
    """ECE, NLL, Brier and reliability, raw and scaled."""
    if reason := no_answers(compared):
        return Chapter("calibration", TITLE, (Text(reason, missing=True),))
    assert compared.images is not None
    numbers = calibration(compared.logits, compared.images.labels)
    images = "test set" if compared.images.split == "test" else "held-out images"
    headers, numeric = columns(
        {
            "network": False,
            "softmax": False,
            "accuracy (%)": True,
            "mean confidence (%)": True,
            "ECE (%)": True,
            "NLL (nats)": True,
            "Brier (0 to 2)": True,
            "T of each half": True,
        }
    )
    rows = tuple(row for name, each in numbers["networks"].items() for row in _rows(name, each))
    told = ", ".join(
        f"{name} {each['raw']['ece']:.1f} % raw and {each['scaled']['ece']:.1f} % scaled"
        for name, each in numbers["networks"].items()
    )
    return Chapter(
        "calibration",
        TITLE,
        (
            Text(WARNING, warning=True),
            Figure(
                "reliability",
                "Reliability: accuracy of the images in each bin of confidence; on the line, confidence is what it "
                "says.",
                f"Line charts of accuracy over confidence, raw and after temperature scaling. ECE: {told}.",
                numbers,
                draw_reliability(numbers, compared.looks),
            ),
            Table(
                "Calibration, raw and after temperature scaling by cross-fitting.",
                headers,
                rows,
                numeric,
                sortable=True,
            ),
            Text(_HOW.format(images=images)),
        ),
    )


def _rows(name: str, each: dict[str, Any]) -> list[tuple[str, ...]]:
    kinds = (("raw", "raw", "-"), ("scaled", "scaled", ", ".join(f"{t:.3g}" for t in each["scaled"]["temperatures"])))
    return [
        (
            name,
            words,
            number(each[kind]["accuracy"]),
            number(each[kind]["confidence"]),
            number(each[kind]["ece"]),
            number(each[kind]["nll"], 4),
            number(each[kind]["brier"], 4),
            temperatures,
        )
        for kind, words, temperatures in kinds
    ]
