"""Fixed subsets of a training set: a class-balanced limit and a stratified hold-out.

Both are drawn from seeds of their own, never from a run's: every run sees the same subset. NumPy's
`RandomState` is used because its stream is frozen for good, which `default_rng` does not promise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT_SEED = 20_240_601
HOLDOUT_SEED = 20_240_602

Labels = NDArray[np.int64]


def stratified(labels: Labels, size: int, *, num_classes: int, seed: int) -> Labels:
    """Positions (ascending) of `size` images that keep the classes' proportions, by largest remainder."""
    counts = np.bincount(labels, minlength=num_classes)
    quota, remainder = np.divmod(counts * size, len(labels))
    short = size - int(quota.sum())
    quota[np.argsort(-remainder, kind="stable")[:short]] += 1
    return _draw(labels, quota, seed)


def balanced(labels: Labels, size: int, *, num_classes: int, seed: int) -> Labels:
    """Positions (ascending) of `size` images spread over the classes as evenly as their counts allow."""
    counts = np.bincount(labels, minlength=num_classes)
    quota = np.zeros_like(counts)
    while (short := size - int(quota.sum())) > 0:
        open_classes = np.flatnonzero(quota < counts)
        each = max(1, short // len(open_classes))
        grown = open_classes[:short]  # one each to the first `short` classes once less than one each is left
        quota[grown] = np.minimum(quota[grown] + each, counts[grown])
    return _draw(labels, quota, seed)


def limited(labels: Labels, limit: int | None, *, num_classes: int) -> Labels | None:
    """Positions of the images `dataset.limit` keeps, or None for all; ValueError where it is out of range."""
    if limit is None:
        return None
    if not num_classes <= limit <= len(labels):
        raise ValueError(
            f"dataset.limit must be between the number of classes ({num_classes}) and the number of training "
            f"images ({len(labels)}), got {limit}: choose a number in this range or null for all images"
        )
    return balanced(labels, limit, num_classes=num_classes, seed=LIMIT_SEED)


def held_out(labels: Labels, holdout: int, *, class_names: tuple[str, ...]) -> Labels:
    """Positions of the `holdout` images kept out of training; ValueError where a class would lose all."""
    if not 0 <= holdout < len(labels):
        raise ValueError(
            f"dataset.holdout must be at least 0 and below the number of training images ({len(labels)}), "
            f"got {holdout}: set dataset.holdout to a smaller number, or to 0 to evaluate on the test set"
        )
    positions = stratified(labels, holdout, num_classes=len(class_names), seed=HOLDOUT_SEED)
    left = np.bincount(np.delete(labels, positions), minlength=len(class_names))
    if not left.all():
        bare = int(np.argmin(left))
        raise ValueError(
            f"dataset.holdout={holdout} leaves class {bare} ({class_names[bare]}) without training images: "
            f"set dataset.holdout to a smaller number"
        )
    return positions


def _draw(labels: Labels, quota: Labels, seed: int) -> Labels:
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = [order[labels[order] == label][:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(chosen))
