"""Huang and Wang 2017: CE + 50 sum over stages of MMD^2, k(x, y) = (x . y)^2 between unit channels, pair by pair."""

import numpy as np
from ce import cross_entropy
from stages import stages


def patterns(channels):
    """(C, HW), each row of length 1, or 0 where the channel is dead."""
    flat = channels.reshape(len(channels), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)


def kernel_mean(a, b):
    return np.mean([[(x @ y) ** 2 for y in b] for x in a])


def discrepancy(student, teacher):
    s, t = patterns(student), patterns(teacher)
    return kernel_mean(s, s) + kernel_mean(t, t) - 2 * kernel_mean(s, t)


def reference(case):
    feature = sum(np.mean([discrepancy(s, t) for s, t in zip(*maps, strict=True)]) for maps in stages(case))
    return {"ce": cross_entropy(case), "feature": 50 * feature}
