"""Tung and Mori 2019, Eqs. 2 to 4: CE + 3000 |G_s - G_t|_F^2 / B^2, G the row-normalised Q Q' of the last maps."""

import numpy as np
import pytest
from ce import cross_entropy


def similarities(feature_map):
    q = feature_map.numpy().reshape(len(feature_map), -1)
    g = q @ q.T
    return g / np.linalg.norm(g, axis=1, keepdims=True)


def reference(case):
    ours, theirs = (similarities(output.features[-1]) for output in (case.student, case.teacher))
    return {"ce": cross_entropy(case), "feature": 3000 * ((ours - theirs) ** 2).sum() / len(ours) ** 2}


def law(single, doubled):
    assert doubled["ce"] == pytest.approx(single["ce"], rel=1e-9)
    assert doubled["feature"] == pytest.approx(single["feature"] / 2, rel=1e-9)
