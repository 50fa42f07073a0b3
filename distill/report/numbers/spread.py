"""Sizes of logits: histograms, ranges, and the joint distribution of each image's mean and deviation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.report.numbers.softened import Labels, Logits

MOST_BINS, MOST_JOINT_BINS, LEAST_BINS = 80, 48, 12


def logit_spread(networks: Mapping[str, Logits], labels: Labels) -> dict[str, Any]:
    """Histograms over common bins of all logits and of each image's range (largest minus smallest), with summaries."""
    values = {name: logits.astype(np.float64) for name, logits in networks.items()}
    return {
        "logits": _histograms({name: each.ravel() for name, each in values.items()}),
        "ranges": _histograms({name: np.ptp(each, axis=1) for name, each in values.items()}),
        "summary": {name: _summary(each, labels) for name, each in values.items()},
    }


def _summary(logits: NDArray[np.float64], labels: Labels) -> dict[str, float]:
    return {
        "min": float(logits.min()),
        "max": float(logits.max()),
        "mean": float(logits.mean()),
        "mean_range": float(np.ptp(logits, axis=1).mean()),
        "mean_deviation": float(logits.std(axis=1).mean()),
        "mean_target": float(logits[np.arange(len(labels)), labels].mean()),
    }


def _histograms(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """`density` per unit of the values, so that histograms with unlike counts compare."""
    edges = _edges(list(values.values()), most=MOST_BINS)
    density = {name: np.histogram(each, bins=edges, density=True)[0].tolist() for name, each in values.items()}
    return {"edges": edges.tolist(), "density": density}


def mean_and_deviation(networks: Mapping[str, Logits]) -> dict[str, Any]:
    """Images by the mean (rows) and the deviation (columns) of their K logits, counted over common bins.

    The deviation is that of the population (1/K), as the paper's figure 5 has it.
    """
    found = {
        name: (logits.mean(axis=1, dtype=np.float64), logits.astype(np.float64).std(axis=1))
        for name, logits in networks.items()
    }
    means = _edges([mean for mean, _ in found.values()], most=MOST_JOINT_BINS)
    deviations = _edges([deviation for _, deviation in found.values()], most=MOST_JOINT_BINS)
    return {
        "mean_edges": means.tolist(),
        "deviation_edges": deviations.tolist(),
        "networks": {
            name: {
                "mean": float(mean.mean()),
                "deviation": float(deviation.mean()),
                "counts": np.histogram2d(mean, deviation, bins=(means, deviations))[0].astype(int).tolist(),
            }
            for name, (mean, deviation) in found.items()
        },
    }


def _edges(values: list[NDArray[np.float64]], *, most: int) -> NDArray[np.float64]:
    """Of bins of equal width over all values, as many as the root of their number, within reason."""
    bins = int(np.clip(np.sqrt(len(values[0])), LEAST_BINS, most))
    low, high = min(float(each.min()) for each in values), max(float(each.max()) for each in values)
    if high - low < 1e-6 * max(1.0, abs(high)):  # one value: a bin has to have some width
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)
