"""Jin 2023: sums over temperatures (4, 3, 5, 2, 6) of three levels, each times 0.9; 0.1 CE of either view.

instance: mean of mask_i T^2 KL_i on the weak view, mean of T^2 KL_i on the strong one
batch:    1/B sum over i, j of mask_i (P P' of the teacher - of the student)_ij^2, P softened, weak view
class:    1/K sum over k, l of mask_k (P' P of the teacher - of the student)_kl^2, weak view
mask:     1 for samples whose confidence, and classes whose mass, is at or below the median, at temperature 1
"""

import numpy as np
import pytest
from ce import log_softmax
from kd import unchanged

EVERY = (4, 3, 5, 2, 6)


def lower_half(values):
    return np.array([float(sum(other < value for other in values) < len(values) / 2) for value in values])


def share(values):
    return np.full(len(values), lower_half(values).mean())


def alike(values):
    return np.ones(len(values))


def instance(student, teacher, temperature, weights):
    log_q, log_p = log_softmax(student / temperature), log_softmax(teacher / temperature)
    return temperature**2 * (weights * (np.exp(log_p) * (log_p - log_q)).sum(1)).mean()


def correlation(student, teacher, weights):
    """Squared distance of similarities of rows, weighted by row, over the number of rows."""
    total = 0.0
    for i, weight in enumerate(weights):
        for j in range(len(weights)):
            total += weight * (teacher[i] @ teacher[j] - student[i] @ student[j]) ** 2
    return total / len(weights)


def reference_with(weight, *, temperatures, strong, unselected, selection, change=unchanged):
    """A reference with these numbers; `change` is applied to the logits of both sides at the instance level."""

    def reference(case):
        labels = case.batch.labels.numpy()
        weak_s, weak_t = case.student.logits.numpy(), case.teacher.logits.numpy()
        strong_s, strong_t = case.student.strong.logits.numpy(), case.teacher.strong.logits.numpy()
        p = np.exp(log_softmax(weak_t))
        samples, classes = selection(p.max(1)), selection(p.sum(0))
        level = sum(instance(change(weak_s), change(weak_t), t, samples) for t in temperatures)
        level += sum(instance(change(strong_s), change(strong_t), t, alike(labels)) for t in strong)
        level += sum(instance(change(weak_s), change(weak_t), t, alike(labels)) for t in unselected)
        soft = [tuple(np.exp(log_softmax(side / t)) for side in (weak_s, weak_t)) for t in temperatures]
        return {
            "ce": -0.1 * sum(log_softmax(view)[np.arange(len(labels)), labels].mean() for view in (weak_s, strong_s)),
            "instance": weight * level,
            "batch": weight * sum(correlation(q, p, samples) for q, p in soft),
            "class": weight * sum(correlation(q.T, p.T, classes) for q, p in soft),
        }

    return reference


def law(single, doubled):
    """Four copies of the similarities of samples over 2 B; those of the classes are sums over the batch, squared."""
    factors = {"ce": 1, "instance": 1, "batch": 2, "class": 4}
    assert doubled == pytest.approx({term: factors[term] * value for term, value in single.items()}, rel=1e-9)


reference = reference_with(0.9, temperatures=EVERY, strong=EVERY, unselected=(), selection=lower_half)
