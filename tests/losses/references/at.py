"""Zagoruyko and Komodakis 2017, Eq. 2 with p = 2: CE + 1000 sum over stages of the mean over images and positions of
(Q_s / |Q_s| - Q_t / |Q_t|)^2, Q = sum_c A_c^2, flattened."""

import numpy as np
from ce import cross_entropy
from stages import stages


def attention(feature_map):
    q = (feature_map**2).sum(1).reshape(len(feature_map), -1)
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def reference(case):
    distances = [((attention(s) - attention(t)) ** 2).mean() for s, t in stages(case)]
    return {"ce": cross_entropy(case), "feature": 1000 * sum(distances)}
