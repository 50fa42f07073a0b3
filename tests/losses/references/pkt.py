"""Passalis and Tefas 2018: CE + 30000 mean_ij p_ij log(p_ij / q_ij), rows of (cos + 1) / 2 over their sums; p of the
teacher, q of the student, 1e-7 inside the logarithms."""

import numpy as np
import pytest
from ce import cross_entropy


def probabilities(embedding):
    x = embedding.numpy()
    length = np.linalg.norm(x, axis=1)
    kernel = (x @ x.T / np.outer(length, length) + 1) / 2
    return kernel / kernel.sum(1, keepdims=True)


def reference(case):
    q, p = (probabilities(output.embedding) for output in (case.student, case.teacher))
    return {"ce": cross_entropy(case), "feature": 30000 * (p * np.log((p + 1e-7) / (q + 1e-7))).mean()}


def law(single, doubled):
    assert doubled["ce"] == pytest.approx(single["ce"], rel=1e-9)
    assert doubled["feature"] == pytest.approx(single["feature"] / 2, rel=1e-5)
