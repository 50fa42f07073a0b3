"""Yim et al. 2017, Eq. 1 and 2: the sum over consecutive taps of the mean squared difference of G(student) and
G(teacher), G_ij = sum over positions of lower_i upper_j / (h w), the larger map averaged down."""

import numpy as np
from stages import shrunk


def flow(lower, upper):
    size = np.minimum(lower.shape[2:], upper.shape[2:])
    lower, upper = shrunk(lower, *size), shrunk(upper, *size)
    return np.stack([a.reshape(len(a), -1) @ b.reshape(len(b), -1).T for a, b in zip(lower, upper, strict=True)]) / (
        size[0] * size[1]
    )


def reference(case):
    total = 0.0
    ours, theirs = ([tap.numpy() for tap in output.features] for output in (case.student, case.teacher))
    for place in range(len(ours) - 1):
        difference = flow(ours[place], ours[place + 1]) - flow(theirs[place], theirs[place + 1])
        total += (difference**2).mean()
    return {"feature": total}
