"""Noise-contrastive estimation: the formula of CRD as printed, its limits, its gradient."""

import math

import numpy as np
import pytest
import torch

from distill.losses import log_mean_exp, noise_contrastive

IMAGES = 30


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(1)
    draws = 4 * torch.randn(5, 8, dtype=torch.float64, generator=generator)
    return draws[:, 0].clone().requires_grad_(), draws[:, 1:].clone().requires_grad_()


def printed(positive, negatives, normalizer):
    """-log h - sum log(1 - h), h = P / (P + K/M), P = e^score / Z: sample by sample."""
    noise = negatives.shape[1] / IMAGES
    total = 0.0
    for p, row in zip(np.exp(positive) / normalizer, np.exp(negatives) / normalizer, strict=True):
        total -= np.log(p / (p + noise)) + sum(np.log(1 - n / (n + noise)) for n in row)
    return total / len(positive)


@pytest.mark.parametrize("normalizer", [1.0, 25.0])
def test_the_formula(scores, normalizer):
    positive, negatives = scores
    value = noise_contrastive(positive, negatives, images=IMAGES, log_normalizer=math.log(normalizer))
    expected = printed(positive.detach().numpy(), negatives.detach().numpy(), normalizer)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    as_tensor = torch.tensor(math.log(normalizer), dtype=torch.float64)
    assert noise_contrastive(positive, negatives, images=IMAGES, log_normalizer=as_tensor) == value


def test_its_gradient(scores):
    def loss(positive, negatives):
        return noise_contrastive(positive, negatives, images=IMAGES, log_normalizer=1.5)

    assert torch.autograd.gradcheck(loss, scores)


def test_the_best_critic_is_the_posterior_of_being_the_positive():
    """Positives from p, K uniform negatives: the expected loss is least at P = p, where h = p / (p + K/M)."""
    p, count = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), 4
    scores = p.log().requires_grad_()
    rows = torch.arange(3)
    columns = scores.expand(3, 3)
    # as many negatives as there are images, weighed to K: every image once, from each anchor
    single = [
        noise_contrastive(scores[i : i + 1], columns[i : i + 1, j : j + 1].expand(1, count), images=3, log_normalizer=0)
        for i in rows
        for j in rows
    ]
    expected = sum(p[k // 3] / 3 * value for k, value in enumerate(single))
    (slope,) = torch.autograd.grad(expected, scores)
    assert slope.abs().max() < 1e-12
    posterior = torch.sigmoid(scores - math.log(count / 3))
    torch.testing.assert_close(posterior, p / (p + count / 3))


def test_scores_that_overflow_an_exponential_have_a_value_and_a_slope():
    positive = torch.tensor([500.0, -500.0], requires_grad=True)
    negatives = torch.tensor([[500.0], [-500.0]], requires_grad=True)
    value = noise_contrastive(positive, negatives, images=IMAGES, log_normalizer=0.0)
    value.backward()
    offset = math.log(1 / IMAGES)
    assert value.item() == pytest.approx((500 - offset + 500 + offset) / 2)
    assert positive.grad.tolist() == pytest.approx([0, -0.5])
    assert negatives.grad.flatten().tolist() == pytest.approx([0.5, 0])


def test_log_mean_exp(scores):
    _, negatives = scores
    assert log_mean_exp(negatives).item() == pytest.approx(np.log(np.exp(negatives.detach().numpy()).mean()))
    assert log_mean_exp(torch.tensor([[1000.0, 1000.0]])).item() == 1000


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_half_types_are_raised(scores, half):
    positive, negatives = (side.detach().to(half) for side in scores)
    value = noise_contrastive(positive, negatives, images=IMAGES, log_normalizer=0.5)
    assert value.dtype == torch.float32
    assert value == noise_contrastive(positive.float(), negatives.float(), images=IMAGES, log_normalizer=0.5)
    assert log_mean_exp(negatives).dtype == torch.float32
