"""Which classes a network gets wrong, and for what it takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.report.numbers.softened import Labels, Logits

MOST = 8  # confusions and classes that are listed by name


def class_errors(networks: Mapping[str, Logits], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Error of each network on each class in percent, None for a class without images."""
    counts = np.bincount(labels, minlength=len(names))
    return {
        "classes": list(names),
        "images": counts.tolist(),
        "error": {name: _errors(logits, labels, counts) for name, logits in networks.items()},
    }


def _errors(logits: Logits, labels: Labels, counts: NDArray[np.integer]) -> list[float | None]:
    wrong = np.bincount(labels[logits.argmax(axis=1) != labels], minlength=len(counts))
    return [100.0 * int(w) / int(n) if n else None for w, n in zip(wrong, counts, strict=True)]


def confusions(networks: Mapping[str, Logits], labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Of each network the K x K counts (row: true class, column: prediction) and the most frequent confusions."""
    return {
        "classes": list(names),
        "networks": {name: _confusion(logits, labels, names) for name, logits in networks.items()},
    }


def _confusion(logits: Logits, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=1)), 1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    pairs = [divmod(int(place), len(names)) for place in order]
    listed = [
        {"true": names[t], "predicted": names[p], "images": int(wrong[t, p]), "of": int(counts[t].sum())}
        for t, p in pairs
        if wrong[t, p]
    ]
    return {"counts": counts.tolist(), "most": listed}


def largest_changes(errors: Mapping[str, Any], *, of: str, against: str) -> list[dict[str, Any]]:
    """The classes whose error differs most between two networks, the worse for `of` first: name, both, difference."""
    mine, others = errors["error"][of], errors["error"][against]
    rows = [
        {"class": name, "error": a, "against": b, "difference": a - b}
        for name, a, b in zip(errors["classes"], mine, others, strict=True)
        if a is not None and b is not None and a != b
    ]
    return sorted(sorted(rows, key=lambda row: -abs(row["difference"]))[:MOST], key=lambda row: -row["difference"])
