"""Hinton 2015: 0.1 CE + 0.9 T^2 sum_k p_k (log p_k - log q_k), mean over the batch, T = 4; p, q of logits / T."""

import numpy as np
from ce import cross_entropy, log_softmax


def unchanged(logits):
    return logits


def divergence(case, *, temperature, student=unchanged, teacher=unchanged):
    """T^2 KL(teacher || student) of logits changed by functions of rows."""
    log_q = log_softmax(student(case.student.logits.numpy()) / temperature)
    log_p = log_softmax(teacher(case.teacher.logits.numpy()) / temperature)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(1).mean()


def reference_with(temperature, ce_weight, kd_weight, **sides):
    """A reference with these numbers; a term of weight 0 is left out."""

    def reference(case):
        terms = {"ce": ce_weight * cross_entropy(case)} if ce_weight else {}
        return terms | {"kd": kd_weight * divergence(case, temperature=temperature, **sides)}

    return reference


reference = reference_with(4, 0.1, 0.9)
