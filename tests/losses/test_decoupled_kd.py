"""TCKD and NCKD: the formulas row by row, and that together they are KD."""

import math
from functools import partial

import pytest
import torch

from distill.losses import kd, log_target_and_rest, nckd, split_target, tckd

TEMPERATURES = (1.0, 2.0, 4.0)


@pytest.fixture
def pair():
    draw = partial(torch.randn, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 3 * draw() + 0.7, 2 * draw() - 1.3


@pytest.fixture
def labels():
    return torch.tensor([0, 5, 2, 2, 4, 1, 3])


def probabilities(row, temperature):
    powers = [math.exp(z / temperature) for z in row]
    return [power / math.fsum(powers) for power in powers]


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def by_hand(student, teacher, labels, temperature):
    """Both terms of every sample, T^2 inside."""
    terms = []
    for s, t, y in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        q, p = probabilities(s, temperature), probabilities(t, temperature)
        binary = kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = kl(*([x / (1 - r[y]) for k, x in enumerate(r) if k != y] for r in (p, q)))
        terms.append((temperature**2 * binary, temperature**2 * others))
    return terms


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_values(pair, labels, temperature):
    target, nontarget = zip(*by_hand(*pair, labels, temperature), strict=True)
    assert tckd(*pair, labels, temperature=temperature).item() == pytest.approx(math.fsum(target) / 7, rel=1e-12)
    assert nckd(*pair, labels, temperature=temperature).item() == pytest.approx(math.fsum(nontarget) / 7, rel=1e-12)


def test_anchor_by_hand():
    teacher = torch.tensor([[math.log(6), math.log(1), math.log(1)]], dtype=torch.float64)  # 3/4, 1/8, 1/8
    student = torch.tensor([[math.log(2), math.log(1), math.log(1)]], dtype=torch.float64)  # 1/2, 1/4, 1/4
    label = torch.tensor([0])
    binary = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert tckd(student, teacher, label, temperature=1).item() == pytest.approx(binary, abs=1e-15)
    assert nckd(student, teacher, label, temperature=1).item() == pytest.approx(0, abs=1e-15)
    assert tckd(2 * student, 2 * teacher, label, temperature=2).item() == pytest.approx(4 * binary, abs=1e-15)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_terms_recombine_to_kd(pair, labels, temperature):
    """Eq. 6: KD = TCKD + (1 - p_t) NCKD, sample by sample, value and gradient."""
    for i in range(7):
        student, teacher = (side[i : i + 1].clone().requires_grad_() for side in pair)
        label = labels[i : i + 1]
        p_target = (teacher.detach() / temperature).softmax(-1)[0, label]
        whole = kd(student, teacher.detach(), temperature=temperature)
        target = tckd(student, teacher.detach(), label, temperature=temperature)
        nontarget = nckd(student, teacher.detach(), label, temperature=temperature)
        recombined = target + (1 - p_target.squeeze()) * nontarget
        torch.testing.assert_close(recombined, whole, rtol=1e-11, atol=1e-14)
        grads = [torch.autograd.grad(value, student, retain_graph=True)[0] for value in (whole, recombined)]
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-13)


def test_what_each_term_sees(pair, labels):
    student, teacher = pair
    rows = torch.arange(7)
    louder = student.clone()
    louder[rows, labels] += torch.linspace(1, 3, 7, dtype=torch.float64)
    before, after = (nckd(side, teacher, labels, temperature=2.0) for side in (student, louder))
    torch.testing.assert_close(after, before, rtol=1e-12, atol=0)
    before, after = (tckd(side, teacher, labels, temperature=2.0) for side in (student, louder))
    assert abs(after - before) > 0.01
    # the other classes' order is nothing to the target term, and everything to the non-target one
    target, others = split_target(student, labels)
    rolled = student.clone()
    rolled[torch.ones_like(student, dtype=torch.bool).scatter(1, labels[:, None], False)] = others.roll(1, 1).flatten()
    torch.testing.assert_close(rolled[rows, labels], target)
    torch.testing.assert_close(
        tckd(rolled, teacher, labels, temperature=2.0), tckd(student, teacher, labels, temperature=2.0)
    )
    assert abs(nckd(rolled, teacher, labels, temperature=2.0) - nckd(student, teacher, labels, temperature=2.0)) > 0.1


@pytest.mark.parametrize("loss", [tckd, nckd])
def test_no_distance_from_oneself_and_none_for_a_shift(loss, pair, labels):
    student, teacher = pair
    assert abs(loss(student, student, labels, temperature=4.0).item()) < 1e-14
    moved = loss(student + 5, teacher - 3, labels, temperature=4.0)
    torch.testing.assert_close(moved, loss(student, teacher, labels, temperature=4.0), rtol=1e-11, atol=0)


@pytest.mark.parametrize("loss", [tckd, nckd])
def test_gradcheck(loss, pair, labels):
    student, teacher = (side[:3].clone().requires_grad_() for side in pair)
    temperature = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s, t, tau: loss(s, t, labels[:3], temperature=tau), (student, teacher, temperature)
    )


def test_certainty_beyond_the_digits_is_finite_and_right():
    """p_t rounds to 1 in float32; -1000 * mask or log(1 - p_t) would give inf, NaN or nothing."""
    student = torch.tensor([[200.0, -3.0, 1.0, 0.0], [0.0, 2000.0, 5.0, 1.0]], requires_grad=True)
    teacher = torch.tensor([[150.0, 2.0, -1.0, 0.0], [3000.0, 0.0, 1.0, 2.0]])
    labels = torch.tensor([0, 1])
    for loss in (tckd, nckd):
        value = loss(student, teacher, labels, temperature=1.0)
        exact = loss(student.double(), teacher.double(), labels, temperature=1.0)
        assert value.item() == pytest.approx(exact.item(), rel=1e-5)
        (grad,) = torch.autograd.grad(value, student)
        assert grad.isfinite().all()
    assert nckd(student, teacher, labels, temperature=1.0) > 0.1


def test_the_split(pair, labels):
    logits = pair[0]
    target, others = split_target(logits, labels)
    for i, y in enumerate(labels.tolist()):
        assert target[i] == logits[i, y]
        assert others[i].tolist() == [z for k, z in enumerate(logits[i].tolist()) if k != y]
    log_target, log_rest = log_target_and_rest(target, others)
    torch.testing.assert_close(log_target.exp() + log_rest.exp(), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(log_target.exp(), logits.softmax(-1)[torch.arange(7), labels])
