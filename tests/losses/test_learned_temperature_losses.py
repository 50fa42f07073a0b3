"""KD with a temperature for every sample, and gradients turned round."""

from functools import partial

import pytest
import torch

from distill.losses import cross_entropy_rows, kd, kd_by_sample, kl_rows, log_softened, reverse_gradient


@pytest.fixture
def pair():
    draw = partial(torch.randn, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    return 2 * draw(), 3 * draw() + 1


def test_one_temperature_for_all_is_kd(pair):
    for temperature in (2.5, torch.tensor(2.5, dtype=torch.float64)):
        torch.testing.assert_close(kd_by_sample(*pair, temperature=temperature), kd(*pair, temperature=2.5))


def test_every_sample_at_its_own_temperature(pair):
    temperatures = torch.tensor([[1.0], [2.0], [4.0], [15.6]], dtype=torch.float64)
    rows = [kd(pair[0][i : i + 1], pair[1][i : i + 1], temperature=temperatures[i, 0]) for i in range(4)]
    value = kd_by_sample(*pair, temperature=temperatures)
    assert value.shape == ()
    torch.testing.assert_close(value, torch.stack(rows).mean())


def test_gradcheck(pair):
    student, teacher = (side.clone().requires_grad_() for side in pair)
    for temperature in (torch.tensor(1.7), torch.tensor([[1.2], [2.0], [3.0], [5.0]])):
        leaf = temperature.double().requires_grad_()
        assert torch.autograd.gradcheck(lambda s, t, tau: kd_by_sample(s, t, temperature=tau), (student, teacher, leaf))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, torch.tensor(0.3)])
def test_a_reversed_gradient(strength):
    value = torch.tensor([0.1, -7.3, 1e8], requires_grad=True)
    out = reverse_gradient(value, strength=strength)
    assert torch.equal(out, value)
    (grad,) = torch.autograd.grad((out * torch.tensor([1.0, 2.0, 3.0])).sum(), value)
    torch.testing.assert_close(grad, -float(strength) * torch.tensor([1.0, 2.0, 3.0]))


def test_cross_entropy_is_divergence_and_the_teachers_entropy(pair):
    log_q, log_p = log_softened(pair[0], 3.0), log_softened(pair[1], 3.0)
    entropy = -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(cross_entropy_rows(log_q, log_p), kl_rows(log_q, log_p) + entropy)
