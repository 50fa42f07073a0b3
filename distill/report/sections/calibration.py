"""Calibration: ECE, NLL, Brier score and reliability, raw and after temperature scaling.

"On Calibration of Modern Neural Networks" (Guo et al. 2017, arXiv 1706.04599): the binned error of section 2 with 15
bins of equal width, Eq. 3, and the temperature scaling of section 4.2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from distill.report.drawing import Styles, drawing, line, run_styles, steps
from distill.report.page import FAINT, Block, Figure, PageTable, Text, number_columns, text_columns
from distill.report.runs import Images, Report
from distill.report.softmax import Flags, Labels, Logits, Reals, log_softmax
from distill.tables.values import number

BINS = 15
SEED = 0
_LOWEST, _HIGHEST = 1e-3, 1e3  # bounds of the search for a temperature
WARNING = (
    "A Z-score loss matches the relations between a student's logits and leaves their size free, so the raw confidence "
    "of its students can be far too low or too high: compare methods after temperature scaling."
)
_METHOD = (
    f"ECE has {BINS} bins of equal width on the largest probability. Temperature scaling is two-fold cross-fitting "
    "on the {images}, split into two halves class by class: each half gets the temperature with the lowest NLL on the "
    "other half. No image is scored with a temperature that it helped to choose, but no separate images were held "
    "back either: this compares methods and is no estimate for new data."
)


def calibration(networks: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each network: scores of the raw softmax, and of the one scaled by two-fold cross-fitting."""
    return {
        "bins": BINS,
        "folds_seed": SEED,
        "networks": {name: _raw_and_scaled(logits, labels) for name, logits in networks.items()},
    }


def _raw_and_scaled(logits: Logits, labels: Labels) -> dict[str, Any]:
    scaled, temperatures = cross_fitted(logits, labels)
    raw = log_softmax(logits, 1.0)
    return {"raw": scores(raw, labels), "scaled": {**scores(scaled, labels), "temperatures": temperatures}}


def scores(log_shares: Reals, labels: Labels) -> dict[str, Any]:
    """Accuracy and mean confidence in percent, ECE in percent, NLL in nats, Brier (0 to 2), the reliability diagram.

    `log_shares` (N, K) are logarithms of probabilities.
    """
    shares = np.exp(log_shares)
    confidence = shares.max(axis=1)
    right = log_shares.argmax(axis=1) == labels
    truth = np.eye(shares.shape[1])[labels]
    bins = reliability(confidence, right)
    gaps = [each["count"] * abs(each["accuracy"] - each["confidence"]) for each in bins if each["count"]]
    return {
        "accuracy": 100.0 * float(right.mean()),
        "confidence": 100.0 * float(confidence.mean()),
        "ece": float(sum(gaps) / len(labels)),
        "nll": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "brier": float(((shares - truth) ** 2).sum(axis=1).mean()),
        "reliability": bins,
    }


def reliability(confidence: Reals, right: Flags) -> list[dict[str, Any]]:
    """The bins (low, high] of the largest probability, from low to high.

    Of each the number of images, and in percent their accuracy and mean confidence (None for an empty bin).
    `confidence` (N,) lies in 0..1, `right` (N,) marks right predictions.
    """
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    return [
        {
            "low": float(edges[each]),
            "high": float(edges[each + 1]),
            "count": int((inside := place == each).sum()),
            "accuracy": 100.0 * float(right[inside].mean()) if inside.any() else None,
            "confidence": 100.0 * float(confidence[inside].mean()) if inside.any() else None,
        }
        for each in range(BINS)
    ]


def cross_fitted(logits: Logits, labels: Labels) -> tuple[Reals, list[float]]:
    """log softmax(z / T), in which each half of the images has the T fitted on the other half: (N, K), and both T.

    A temperature changes no prediction, but fitted on the images it is applied to, it would look too good.
    """
    folds = halves(labels)
    temperatures = [fitted_temperature(logits[folds != fold], labels[folds != fold]) for fold in (0, 1)]
    scaled = np.empty(logits.shape)
    for fold, temperature in enumerate(temperatures):
        scaled[folds == fold] = log_softmax(logits[folds == fold], temperature)
    return scaled, temperatures


def halves(labels: Labels) -> NDArray[np.int64]:
    """0 or 1 for each image (N,): each class is split in half after a seeded shuffle."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % 2
    return folds


def fitted_temperature(logits: Logits, labels: Labels) -> float:
    """The T with the lowest NLL of softmax(z / T) on these images."""
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits, float(np.exp(log_temperature)))[rows, labels].mean())

    bounds = (np.log(_LOWEST), np.log(_HIGHEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def shown_temperature(temperature: float) -> str:
    """With a note where no better one could be found because the search ended there."""
    at_limit = min(temperature / _LOWEST, _HIGHEST / temperature) < 1.01
    return f"{temperature:.3g}{' (limit of the search)' if at_limit else ''}"


def draw_reliability(numbers: Mapping[str, Any], styles: Styles) -> str:
    """Accuracy over confidence above, the number of images below; raw left, scaled right."""
    with drawing(4, 2, height=2.8, sharex=True, sharey="row", height_ratios=[2.4, 1]) as drawn:
        upper, lower = drawn.rows
        for kind, title, above, below in zip(
            ("raw", "scaled"), ("raw", "after temperature scaling"), upper, lower, strict=True
        ):
            above.plot([0, 100], [0, 100], color=FAINT, linewidth=1)
            for name, each in numbers["networks"].items():
                bins = each[kind]["reliability"]
                line(above, [b["confidence"] for b in bins], [b["accuracy"] for b in bins], styles[name], name)
                edges = [100 * b["low"] for b in bins] + [100.0]
                steps(below, edges, [b["count"] for b in bins], styles[name], name)
            above.set_title(title)
            below.set_xlabel("confidence (%)")
            below.set_yscale("log")
        upper[0].set_ylabel("accuracy (%)")
        lower[0].set_ylabel("images")
        upper[0].set_ylim(0, 100)
        upper[0].set_xlim(0, 100)
        drawn.legend()
        return drawn.svg()


def blocks(report: Report, images: Images) -> list[Block]:
    """The reliability diagram and the table of scores, with how to read them."""
    numbers = calibration(report.logits, images.labels)
    networks = numbers["networks"].items()
    eces = ", ".join(
        f"{name} {each['raw']['ece']:.1f} % raw and {each['scaled']['ece']:.1f} % scaled" for name, each in networks
    )
    digits = {"accuracy": 2, "confidence": 2, "ece": 2, "nll": 4, "brier": 4}
    headers = ("accuracy (%)", "mean confidence (%)", "ECE (%)", "NLL (nats)", "Brier (0 to 2)", "T of each half")
    rows = [
        (
            name,
            kind,
            *(number(each[kind][key], n) for key, n in digits.items()),
            ", ".join(map(shown_temperature, each[kind].get("temperatures", ()))) or "-",
        )
        for name, each in networks
        for kind in ("raw", "scaled")
    ]
    return [
        Text(WARNING, warning=True),
        Figure(
            "reliability",
            "Reliability: accuracy of the images in each bin of confidence. On the diagonal, confidence equals "
            "accuracy.",
            f"Line charts of accuracy over confidence, raw and after temperature scaling. ECE: {eces}.",
            numbers,
            draw_reliability(numbers, run_styles(report)),
        ),
        PageTable(
            "Calibration, raw and after temperature scaling by cross-fitting.",
            [*text_columns("network", "softmax"), *number_columns(*headers)],
            rows,
            sortable=True,
        ),
        Text(_METHOD.format(images="test set" if images.split == "test" else "held-out images")),
    ]
