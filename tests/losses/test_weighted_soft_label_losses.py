"""WSLD: sample weights between 0 and 1, without a gradient, on a softened cross-entropy."""

import math
from functools import partial

import pytest
import torch

from distill.losses import soft_cross_entropy, soft_label_weights, weighted_soft_labels

LABELS = torch.tensor([2, 0, 7, 7])


@pytest.fixture
def pair():
    draw = partial(torch.randn, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    return 2 * draw(), 2 * draw() + 1


def losses(logits):
    return [-math.log(row.softmax(-1)[y].item()) for row, y in zip(logits, LABELS, strict=True)]


def test_values(pair):
    weights = [1 - math.exp(-s / (t + 1e-7)) for s, t in zip(*map(losses, pair), strict=True)]
    assert soft_label_weights(*pair, LABELS).tolist() == pytest.approx(weights, rel=1e-12)
    p, q = ((side / 4).softmax(-1) for side in (pair[1], pair[0]))
    rows = (-(p * q.log()).sum(-1)).tolist()
    expected = 16 * math.fsum(w * r for w, r in zip(weights, rows, strict=True)) / 4
    assert weighted_soft_labels(*pair, LABELS, temperature=4.0).item() == pytest.approx(expected, rel=1e-12)


def test_the_weights_are_constants_of_the_optimisation(pair):
    student, teacher = pair[0].clone().requires_grad_(), pair[1]
    (grad,) = torch.autograd.grad(weighted_soft_labels(student, teacher, LABELS, temperature=4.0), student)
    weights = soft_label_weights(student, teacher, LABELS)
    assert not weights.requires_grad
    soft_student, soft_teacher = ((side.detach() / 4).softmax(-1) for side in (student, teacher))
    torch.testing.assert_close(grad, weights[:, None] * 4 * (soft_student - soft_teacher) / 4)


def test_who_is_taught():
    """A student better than its teacher is let go, a worse one learns in full, an equal one 1 - 1/e."""
    label = torch.tensor([0])
    sure, unsure = torch.tensor([[30.0, 0.0]], dtype=torch.float64), torch.tensor([[-3.0, 0.0]], dtype=torch.float64)
    assert soft_label_weights(sure, unsure, label).item() == pytest.approx(0, abs=1e-12)
    assert soft_label_weights(unsure, sure, label).item() == pytest.approx(1, abs=1e-12)
    assert soft_label_weights(unsure, unsure, label).item() == pytest.approx(1 - 1 / math.e, rel=1e-6)
    both_certain = torch.tensor([[500.0, 0.0]])
    assert soft_label_weights(both_certain, both_certain, label).item() == 0  # not 0 / 0


def test_with_equal_weights_it_is_the_soft_cross_entropy(pair):
    student, teacher = pair
    same = student.clone()
    weighted = weighted_soft_labels(student, same, LABELS, temperature=2.0)
    plain = soft_cross_entropy(student, same, temperature=2.0)
    torch.testing.assert_close(weighted, (1 - 1 / math.e) * plain, rtol=1e-6, atol=0)
    assert weighted_soft_labels(student, teacher, LABELS, temperature=2.0) < soft_cross_entropy(
        student, teacher, temperature=2.0
    )


def test_gradcheck_of_the_teachers_side(pair):
    """The student's side has no gradcheck: its weights are stopped on purpose; the teacher's weights, too."""
    student, teacher = (side.clone().requires_grad_() for side in pair)
    frozen = soft_label_weights(student, teacher, LABELS)

    def by_frozen_weights(s, t):
        p, log_q = (t / 3).softmax(-1), (s / 3).log_softmax(-1)
        return 9 * (frozen * -(p * log_q).sum(-1)).mean()

    assert torch.autograd.gradcheck(by_frozen_weights, (student, teacher))
    ours = torch.autograd.grad(weighted_soft_labels(student, teacher, LABELS, temperature=3.0), (student, teacher))
    theirs = torch.autograd.grad(by_frozen_weights(student, teacher), (student, teacher))
    torch.testing.assert_close(ours, theirs)
