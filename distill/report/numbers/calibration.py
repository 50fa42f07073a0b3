"""Whether confidence is what it says: ECE, NLL, Brier, reliability; raw and after temperature scaling.

"On Calibration of Modern Neural Networks" (Guo et al. 2017, arXiv 1706.04599): the binned error of section 2 with 15
bins of equal width, Eq. 3, and the temperature scaling of section 4.2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from distill.report.numbers.softened import Labels, Logits, Reals, log_softened

BINS = 15
SEED = 0
_NARROWEST, _WIDEST = 1e-3, 1e3  # temperatures that are looked at


def calibration(networks: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Of each network: scores of the raw softmax, and of the one scaled by two-fold cross-fitting."""
    return {
        "bins": BINS,
        "folds_seed": SEED,
        "networks": {name: _both(logits, labels) for name, logits in networks.items()},
    }


def _both(logits: Logits, labels: Labels) -> dict[str, Any]:
    scaled, temperatures = cross_fitted(logits, labels)
    raw = log_softened(logits, 1.0)
    return {"raw": scores(raw, labels), "scaled": {**scores(scaled, labels), "temperatures": temperatures}}


def scores(log_shares: Reals, labels: Labels) -> dict[str, Any]:
    """Accuracy and mean confidence in percent, ECE in percent, NLL in nats, Brier (0 to 2), the reliability diagram.

    `log_shares` (N, K) are logarithms of probabilities. A bin is (low, high], and holds the images whose largest
    probability lies there: their number, share of right ones and mean confidence (None for an empty bin).
    """
    shares = np.exp(log_shares)
    confidence = shares.max(axis=1)
    right = log_shares.argmax(axis=1) == labels
    truth = np.eye(shares.shape[1])[labels]
    bins = reliability(confidence, right)
    return {
        "accuracy": 100.0 * float(right.mean()),
        "confidence": 100.0 * float(confidence.mean()),
        "ece": expected_calibration_error(bins),
        "nll": float(-log_shares[np.arange(len(labels)), labels].mean()),
        "brier": float(((shares - truth) ** 2).sum(axis=1).mean()),
        "reliability": bins,
    }


def reliability(confidence: Reals, right: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """The bins from low to high; confidences (N,) in 0..1, `right` (N,) flags; shares are percent."""
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


def expected_calibration_error(bins: list[dict[str, Any]]) -> float:
    """Mean distance between accuracy and confidence over the bins, weighted by their images, in percent."""
    filled = [each for each in bins if each["count"]]
    total = sum(each["count"] for each in filled)
    return float(sum(each["count"] * abs(each["accuracy"] - each["confidence"]) for each in filled) / total)


def cross_fitted(logits: Logits, labels: Labels) -> tuple[Reals, list[float]]:
    """log softmax(z / T) in which each half of the images has the T fitted on the other: (N, K), and both T.

    A temperature changes no prediction; fitted on the images that it is applied to, it would flatter itself.
    """
    folds = halves(labels)
    temperatures = [fitted_temperature(logits[folds != fold], labels[folds != fold]) for fold in (0, 1)]
    scaled = np.empty(logits.shape)
    for fold, temperature in enumerate(temperatures):
        scaled[folds == fold] = log_softened(logits[folds == fold], temperature)
    return scaled, temperatures


def halves(labels: Labels) -> np.ndarray[Any, Any]:
    """0 or 1 for each image (N,): each class is dealt out in turn after a seeded shuffle."""
    order = np.random.default_rng(SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % 2
    return folds


def fitted_temperature(logits: Logits, labels: Labels) -> float:
    """The T with the least NLL of softmax(z / T) on these images."""
    own = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softened(logits, float(np.exp(log_temperature)))[own, labels].mean())

    bounds = (np.log(_NARROWEST), np.log(_WIDEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))
