"""Park et al. 2019, Eqs. 3 to 8: CE + 25 Huber of distances over their mean + 50 Huber of the angles' cosines, means
over all B^2 pairs and B^3 triplets, pair by pair."""

from itertools import product

import numpy as np
import pytest
from ce import cross_entropy


def huber(a, b):
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def distances(x):
    d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
    return d / (d.sum() / (len(x) * (len(x) - 1)))


def cosine(x, i, j, k):
    """Of the angle at j, 0 where j is one of the others."""
    one, other = x[i] - x[j], x[k] - x[j]
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / scale if scale else 0.0


def reference(case):
    s, t = (output.embedding.numpy() for output in (case.student, case.teacher))
    samples = range(len(s))
    pairs = zip(distances(s).flat, distances(t).flat, strict=True)
    triplets = ((cosine(s, *three), cosine(t, *three)) for three in product(samples, repeat=3))
    return {
        "ce": cross_entropy(case),
        "distance": 25 * np.mean([huber(a, b) for a, b in pairs]),
        "angle": 50 * np.mean([huber(a, b) for a, b in triplets]),
    }


def law(single, doubled):
    assert doubled["ce"] == pytest.approx(single["ce"], rel=1e-9)
    assert doubled["angle"] == pytest.approx(single["angle"], rel=1e-9)
    stretch = 15 / 14  # of 8 samples; squared where distances differ by less than 1, and some differ by more
    assert stretch < doubled["distance"] / single["distance"] < stretch**2
