"""DIST: Pearson's correlations of predictions, what they do not see, and what a z-score before the softmax changes."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from distill.losses import inter_class, intra_class, pearson, standardize


@pytest.fixture
def pair():
    draw = partial(torch.randn, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return 2 * draw() + 1, 3 * draw()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_values_by_scipy(pair, temperature):
    q, p = ((side / temperature).softmax(-1).numpy() for side in pair)
    over_classes = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(q, p, strict=True)])
    over_samples = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(q.T, p.T, strict=True)])
    inter, intra = (loss(*pair, temperature=temperature).item() for loss in (inter_class, intra_class))
    assert inter == pytest.approx(temperature**2 * over_classes, rel=1e-5)
    assert intra == pytest.approx(temperature**2 * over_samples, rel=1e-5)
    assert abs(over_classes - over_samples) > 0.01


def test_the_correlation_sees_neither_scale_nor_shift(pair):
    first, second = pair
    factor = torch.linspace(0.5, 4, 6, dtype=torch.float64)[:, None]
    rho = pearson(first, second)
    torch.testing.assert_close(pearson(factor * first - 2, second), rho, rtol=1e-7, atol=0)
    torch.testing.assert_close(pearson(first, 3 * second + factor), rho, rtol=1e-7, atol=0)
    torch.testing.assert_close(pearson(-first, second), -rho, rtol=1e-7, atol=0)
    torch.testing.assert_close(pearson(first, first), torch.ones(6, dtype=torch.float64), rtol=1e-7, atol=0)


def test_a_student_with_scaled_and_shifted_probabilities_has_no_loss(pair):
    """What sets DIST apart from KL: 0.4 p + 0.6 / K differs from p, and correlates with it perfectly."""
    p = pair[1].softmax(-1)
    flatter = (0.4 * p + 0.6 / 9).log()
    for loss in (inter_class, intra_class):
        assert abs(loss(flatter, pair[1], temperature=1.0).item()) < 1e-5
        assert loss(pair[0], pair[1], temperature=1.0) > 0.1


def test_a_batch_written_twice_has_the_same_correlations(pair):
    twice = [torch.cat([side, side]) for side in pair]
    for loss in (inter_class, intra_class):
        once = loss(*pair, temperature=4.0)
        torch.testing.assert_close(loss(*twice, temperature=4.0), once, rtol=1e-5, atol=0)
    # while the intra-class term is no mean over samples
    halves = sum(intra_class(*(side[part] for side in pair), temperature=4.0) for part in (slice(3), slice(3, 6))) / 2
    assert abs(halves - intra_class(*pair, temperature=4.0)) > 0.1


def test_a_zscore_before_the_softmax_is_no_identity(pair):
    """It would be for correlations of logits; those of probabilities see a row's scale, as a temperature."""
    student, teacher = pair
    z_student, z_teacher = standardize(student), standardize(teacher)
    torch.testing.assert_close(pearson(z_student, z_teacher), pearson(student, teacher), rtol=1e-6, atol=0)
    for loss in (inter_class, intra_class):
        plain, standardised = loss(student, teacher, temperature=2.0), loss(z_student, z_teacher, temperature=2.0)
        assert abs(standardised - plain) > 0.05
        shifted = loss(student + torch.arange(6.0)[:, None], teacher, temperature=2.0)
        torch.testing.assert_close(shifted, plain, rtol=1e-9, atol=0)  # the mean, a softmax does not see
        # the deviation, it does: a louder student is another one, and after the z-score the same
        assert abs(loss(5 * student, teacher, temperature=2.0) - plain) > 0.05
        louder = loss(standardize(5 * student), z_teacher, temperature=2.0)
        torch.testing.assert_close(louder, standardised, rtol=1e-5, atol=0)
    deviation = student.std(-1, keepdim=True)
    by_temperature = inter_class(student / deviation, teacher / teacher.std(-1, keepdim=True), temperature=2.0)
    torch.testing.assert_close(inter_class(z_student, z_teacher, temperature=2.0), by_temperature, rtol=1e-5, atol=0)


def test_one_sample_has_no_class_to_correlate(pair):
    student, teacher = (side[:1].clone().requires_grad_() for side in pair)
    value = intra_class(student, teacher, temperature=4.0)
    assert value.item() == 16
    (grad,) = torch.autograd.grad(value, student)
    assert grad.abs().max() == 0


@pytest.mark.parametrize("loss", [inter_class, intra_class])
def test_gradcheck(loss, pair):
    student, teacher = (side[:4, :5].clone().requires_grad_() for side in pair)
    temperature = torch.tensor(1.9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t, tau: loss(s, t, temperature=tau), (student, teacher, temperature))
