"""Label smoothing and the virtual teacher: values, limits, and that both are soft labels without a teacher."""

import math

import pytest
import torch

from distill.losses import cross_entropy, smoothed_cross_entropy, virtual_teacher, virtual_teacher_kd

LABELS = torch.tensor([1, 4, 0, 2])


@pytest.fixture
def student():
    return 2 * torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def test_smoothed_values(student):
    expected = []
    for row, y in zip(student.log_softmax(-1).tolist(), LABELS.tolist(), strict=True):
        target = [0.1 / 5 + (0.9 if k == y else 0) for k in range(5)]
        expected.append(-math.fsum(u * q for u, q in zip(target, row, strict=True)))
    assert smoothed_cross_entropy(student, LABELS, smoothing=0.1).item() == pytest.approx(math.fsum(expected) / 4)
    assert smoothed_cross_entropy(student, LABELS, smoothing=0.0) == cross_entropy(student, LABELS)


def test_smoothing_stops_a_student_at_a_finite_margin():
    logits = torch.tensor([[math.log(0.92), *[math.log(0.02)] * 4]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(smoothed_cross_entropy(logits, torch.tensor([0]), smoothing=0.1), logits)
    assert grad.abs().max() < 1e-15  # 0.9 + 0.1 / 5 at the label
    (grad,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0])), logits)
    assert grad.abs().max() > 0.05


def test_the_virtual_teacher_is_a_distribution_that_is_always_right():
    teacher = virtual_teacher(LABELS, num_classes=5, correct_probability=0.99)
    torch.testing.assert_close(teacher.sum(-1), torch.ones(4))
    assert teacher.argmax(-1).tolist() == LABELS.tolist()
    assert teacher[0].tolist() == pytest.approx([0.0025, 0.99, 0.0025, 0.0025, 0.0025])


def test_virtual_teacher_kd_values(student):
    expected = []
    for row, y in zip(student.log_softmax(-1).tolist(), LABELS.tolist(), strict=True):
        powers = [math.exp((0.99 if k == y else 0.01 / 4) / 20) for k in range(5)]
        v = [power / math.fsum(powers) for power in powers]
        expected.append(math.fsum(a * (math.log(a) - q) for a, q in zip(v, row, strict=True)))
    value = virtual_teacher_kd(student, LABELS, temperature=20.0, correct_probability=0.99)
    assert value.item() == pytest.approx(math.fsum(expected) / 4, rel=1e-12)


def test_a_hot_virtual_teacher_is_label_smoothing(student):
    """T -> infinity: (1 - a) CE + a KL(uniform || q) has the gradient of labels smoothed by a."""
    leaf = student.clone().requires_grad_()
    hot = virtual_teacher_kd(leaf, LABELS, temperature=1e9, correct_probability=0.99)
    both = 0.9 * cross_entropy(leaf, LABELS) + 0.1 * hot
    smoothed = smoothed_cross_entropy(leaf, LABELS, smoothing=0.1)
    grads = [torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in (both, smoothed)]
    torch.testing.assert_close(*grads, rtol=1e-6, atol=1e-9)
    warm = virtual_teacher_kd(leaf, LABELS, temperature=1.0, correct_probability=0.99)
    assert abs(warm - hot) > 1e-2


def test_gradcheck(student):
    leaf = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: smoothed_cross_entropy(s, LABELS, smoothing=0.1), (leaf,))
    assert torch.autograd.gradcheck(
        lambda s: virtual_teacher_kd(s, LABELS, temperature=20.0, correct_probability=0.99), (leaf,)
    )
