"""The z-score of logits and its parts: moments, bound, eps, constant rows."""

import math

import numpy as np
import pytest
import torch

from distill.losses import center, identity, scale, standardize


@pytest.fixture
def logits():
    return 3 * torch.randn(7, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 1.1


@pytest.mark.parametrize("unbiased", [True, False])
def test_zero_mean_and_unit_deviation(logits, unbiased):
    z = standardize(logits, unbiased=unbiased)
    assert z.mean(-1).abs().max() < 1e-12
    np.testing.assert_allclose(np.std(z.numpy(), axis=-1, ddof=int(unbiased)), 1.0, rtol=1e-6)


def test_the_deviation_is_unbiased_unless_asked_otherwise(logits):
    values = logits.numpy()
    for unbiased in (True, False):
        deviation = values.std(axis=-1, ddof=int(unbiased), keepdims=True)
        centred = values - values.mean(axis=-1, keepdims=True)
        np.testing.assert_allclose(standardize(logits, unbiased=unbiased), centred / (deviation + 1e-7), rtol=1e-12)
    assert torch.equal(standardize(logits), standardize(logits, unbiased=True))
    ratio = standardize(logits, unbiased=False) / standardize(logits)
    np.testing.assert_allclose(ratio, math.sqrt(20 / 19), rtol=1e-6)


def test_anchors_by_hand():
    # (1, 2, 3): mean 2, sum of squares 2, unbiased standard deviation 1, population sqrt(2/3)
    row = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    np.testing.assert_allclose(standardize(row), [[-1, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(standardize(row, unbiased=False), [[-1.2247449, 0, 1.2247449]], atol=1e-6)
    np.testing.assert_allclose(scale(row), [[1, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(center(row), [[-1, 0, 1]])
    assert identity(row) is row


def test_eps_is_added_to_the_deviation():
    row = torch.tensor([[-1e-7, 0.0, 1e-7]], dtype=torch.float64)  # deviation 1e-7: a floor would leave (-1, 0, 1)
    np.testing.assert_allclose(standardize(row), [[-0.5, 0, 0.5]], rtol=1e-9)
    np.testing.assert_allclose(standardize(row, eps=3e-7), [[-0.25, 0, 0.25]], rtol=1e-9)
    np.testing.assert_allclose(scale(row), [[-0.5, 0, 0.5]], rtol=1e-9)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_bound(classes, logits):
    bound = (classes - 1) / math.sqrt(classes)
    peak = 1000 * torch.eye(classes, dtype=torch.float64)[:1]  # one logit apart from all others attains it
    assert standardize(peak).max().item() == pytest.approx(bound, rel=1e-8)
    rows = torch.randn(200, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).exp() ** 3
    assert standardize(rows).abs().max() <= bound
    assert standardize(peak, unbiased=False).max().item() == pytest.approx(math.sqrt(classes - 1), rel=1e-8)


def test_ordinary_rows_are_those_of_torch_std(logits):
    """The care for constant rows changes nothing elsewhere, nor beside one."""
    rows = logits.float()
    expected = (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, keepdim=True) + 1e-7)
    torch.testing.assert_close(standardize(rows), expected, rtol=1e-6, atol=1e-7)
    with_constant = torch.cat([rows, torch.full_like(rows[:1], 5.0)])
    assert torch.equal(standardize(with_constant)[:-1], standardize(rows))


@pytest.mark.parametrize("value", [0.0, 5.0, -0.1])
def test_constant_rows_become_zero_with_the_gradient_of_a_constant_deviation(value):
    row = torch.full((1, 4), value, dtype=torch.float64, requires_grad=True)
    z = standardize(row)
    assert z.abs().max() < 1e-8
    incoming = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    (grad,) = torch.autograd.grad(z, row, incoming)
    # d/dz (z - mean) / eps: incoming minus its mean, over eps
    np.testing.assert_allclose(grad, [[0.75e7, -0.25e7, -0.25e7, -0.25e7]], rtol=1e-6)
    scaled = scale(row)
    (grad,) = torch.autograd.grad(scaled, row, incoming)
    assert torch.isfinite(scaled).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_constant_float32_rows_become_zero_exactly(classes):
    """A mean that is off by one rounding, 4e-7 at 5.3, would be several times eps."""
    values = 10 * torch.randn(500, 1, generator=torch.Generator().manual_seed(10))
    assert not standardize(values.expand(-1, classes)).any()


def test_a_poisoned_row_stays_visible_and_stays_alone(logits):
    logits[2, 3] = torch.nan
    z = standardize(logits)
    assert z[2].isnan().all()
    assert z[[0, 1, 3, 4, 5, 6]].isfinite().all()
