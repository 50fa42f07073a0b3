"""Zhao 2022, Eq. 7: CE + ramp (alpha TCKD + beta NCKD), T^2 inside both; T = 4, alpha 1, beta 8, ramp min(e / 20, 1).

TCKD compares (p_t, 1 - p_t), NCKD the softmaxes over the other classes, sample by sample.
"""

import math

import numpy as np
from ce import cross_entropy
from kd import unchanged


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def terms_of(student, teacher, label, temperature):
    """T^2 TCKD and T^2 NCKD of one sample."""
    binary, others = [], []
    for row in (teacher, student):
        p = softmax(row / temperature)
        rest = np.delete(p, label)
        binary.append((p[label], rest.sum()))
        others.append(rest / rest.sum())
    return temperature**2 * kl(*binary), temperature**2 * kl(*others)


def reference_with(temperature, target_weight, nontarget_weight, *, change=unchanged, ramp_epochs=20):
    """A reference with these numbers; `change` is applied to the logits of both sides."""

    def reference(case):
        sides = change(case.student.logits.numpy()), change(case.teacher.logits.numpy())
        rows = zip(*sides, case.batch.labels.tolist(), strict=True)
        target, nontarget = np.mean([terms_of(*row, temperature) for row in rows], axis=0)
        ramp = min((math.floor(case.progress) + 1) / ramp_epochs, 1)
        return {
            "ce": cross_entropy(case),
            "tckd": ramp * target_weight * target,
            "nckd": ramp * nontarget_weight * nontarget,
        }

    return reference


reference = reference_with(4, 1, 8)
