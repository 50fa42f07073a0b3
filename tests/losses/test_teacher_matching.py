"""TTM and WTTM: the power transform, the Renyi identity, the weights' range."""

import math
from functools import partial

import pytest
import torch

from distill.losses import kd, power_sum, ttm, wttm


@pytest.fixture
def pair():
    draw = partial(torch.randn, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    return 2 * draw() - 0.4, 3 * draw() + 1


@pytest.mark.parametrize("gamma", [1.0, 0.3, 0.1])
def test_values_by_the_power_transform(pair, gamma):
    student, teacher = pair
    p, q = teacher.softmax(-1), student.softmax(-1)
    divergences, sums = [], []
    for p_row, q_row in zip(p.tolist(), q.tolist(), strict=True):
        sums.append(math.fsum(x**gamma for x in p_row))
        transformed = [x**gamma / sums[-1] for x in p_row]
        divergences.append(math.fsum(a * math.log(a / b) for a, b in zip(transformed, q_row, strict=True)))
    weighted = math.fsum(u * d for u, d in zip(sums, divergences, strict=True)) / 6
    assert ttm(student, teacher, temperature=1 / gamma).item() == pytest.approx(math.fsum(divergences) / 6, rel=1e-11)
    assert wttm(student, teacher, temperature=1 / gamma).item() == pytest.approx(weighted, rel=1e-11)


@pytest.mark.parametrize("temperature", [1.5, 4.0, 10.0])
def test_ttm_is_kd_and_a_renyi_entropy(pair, temperature):
    """Eq. 15: D(p_T || q) = T D(p_T || q_T) - (T - 1) H_{1/T}(q) + (T - 1) H(p_T)."""
    student, teacher = pair
    order = 1 / temperature
    q, p = student.softmax(-1), (teacher / temperature).softmax(-1)
    renyi = (q**order).sum(-1).log() / (1 - order)
    shannon = -(p * p.log()).sum(-1)
    softened = kd(student, teacher, temperature=temperature) / temperature**2
    expected = temperature * softened + ((temperature - 1) * (shannon - renyi)).mean()
    torch.testing.assert_close(ttm(student, teacher, temperature=temperature), expected, rtol=1e-11, atol=0)


def test_at_temperature_one_all_three_are_kd(pair):
    plain = kd(*pair, temperature=1.0)
    torch.testing.assert_close(ttm(*pair, temperature=1.0), plain)
    torch.testing.assert_close(wttm(*pair, temperature=1.0), plain)


def test_the_gradient_pushes_the_student_to_the_transformed_teacher(pair):
    student, teacher = pair[0].clone().requires_grad_(), pair[1]
    (grad,) = torch.autograd.grad(ttm(student, teacher, temperature=5.0), student)
    torch.testing.assert_close(grad, (student.detach().softmax(-1) - (teacher / 5).softmax(-1)) / 6)


def test_a_flat_teacher_weighs_most():
    flat, sharp = torch.zeros(1, 9, dtype=torch.float64), torch.tensor([[900.0, *[0.0] * 8]], dtype=torch.float64)
    assert power_sum(flat, temperature=10.0).item() == pytest.approx(9**0.9, rel=1e-12)
    assert power_sum(sharp, temperature=10.0).item() == pytest.approx(1, abs=1e-12)
    assert power_sum(sharp, temperature=1.0).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("loss", [ttm, wttm])
def test_gradcheck(loss, pair):
    student, teacher = (side[:3].clone().requires_grad_() for side in pair)
    temperature = torch.tensor(2.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t, tau: loss(s, t, temperature=tau), (student, teacher, temperature))
