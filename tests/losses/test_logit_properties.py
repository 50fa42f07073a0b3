"""What KD and Z-score KD promise: invariances, limits, scales of gradients. float64 unless said."""

import math

import numpy as np
import pytest
import torch

from distill.losses import center, kd, logit_mse, soft_cross_entropy, standardize, transformed_kd, zscore_kd

CLASSES = 10
CAT, DOG, BIRD = range(3)
TEACHER = [-1.5, 1.5, 0.5, -0.5]
NEAR_BUT_WRONG = [-1.2, 0.6, 0.8, -0.2]
FAR_BUT_RIGHT = [-0.15, 0.15, 0.05, -0.05]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 5, CLASSES, dtype=torch.float64, generator=generator)
    return 2.5 * student + 0.3, 1.5 * teacher - 0.8


def gradient(loss, student, teacher, temperature):
    student = student.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(student, teacher, temperature=temperature), student)
    return grad


def per_row(like, low, high):
    generator = torch.Generator().manual_seed(2)
    return low + (high - low) * torch.rand(len(like), 1, dtype=like.dtype, generator=generator)


@pytest.mark.parametrize("loss", [kd, zscore_kd])
def test_no_divergence_from_itself(loss, pair):
    student, teacher = pair
    assert abs(loss(student, student, temperature=2.0).item()) < 1e-14
    assert gradient(loss, student, student, 2.0).abs().max() < 1e-14
    assert loss(student, teacher, temperature=2.0) > 0.1


@pytest.mark.parametrize("loss", [kd, soft_cross_entropy])
def test_a_shift_of_each_row_changes_nothing(loss, pair):
    student, teacher = pair
    value = loss(student, teacher, temperature=3.0)
    moved = loss(student + per_row(student, -9, 9), teacher + 2 * per_row(teacher, -9, 9), temperature=3.0)
    torch.testing.assert_close(moved, value, rtol=1e-12, atol=0)
    assert abs(loss(student * 2, teacher, temperature=3.0) - value) > 1e-2


def test_zscore_kd_sees_neither_shift_nor_scale(pair):
    student, teacher = pair
    value = zscore_kd(student, teacher, temperature=2.0)
    for low, high in ((0.1, 1.0), (1.0, 50.0)):  # deviations stay far above eps = 1e-7
        factor, shift = per_row(student, low, high), per_row(student, -9, 9)
        torch.testing.assert_close(
            zscore_kd(factor * student + shift, teacher, temperature=2.0), value, rtol=1e-5, atol=0
        )
        torch.testing.assert_close(
            zscore_kd(student, factor * teacher - shift, temperature=2.0), value, rtol=1e-5, atol=0
        )
    assert abs(zscore_kd(-student, teacher, temperature=2.0) - value) > 1e-2


def test_zscore_kd_is_kd_of_standardised_logits_with_its_own_squared_temperature(pair):
    student, teacher = pair
    z_student, z_teacher = standardize(student), standardize(teacher)
    for temperature in (1.0, 2.0, 5.0):
        value = zscore_kd(student, teacher, temperature=temperature)
        assert value == kd(z_student, z_teacher, temperature=temperature)
        assert value == transformed_kd(
            student,
            teacher,
            temperature=temperature,
            student_transform=standardize,
            teacher_transform=standardize,
        )


def test_limit_of_high_temperature(pair):
    student, teacher = pair
    centred = (student - student.mean(-1, keepdim=True)) - (teacher - teacher.mean(-1, keepdim=True))
    limit = centred.square().sum(-1).mean() / (2 * CLASSES)
    errors = [abs(kd(student, teacher, temperature=t) / limit - 1).item() for t in (1e2, 1e3, 1e4)]
    assert errors[0] < 0.1
    assert errors[1] < 0.01
    assert errors[2] < 0.001
    regression = logit_mse(center(student), center(teacher)) / (2 * CLASSES)
    torch.testing.assert_close(regression, limit)
    torch.testing.assert_close(gradient(kd, student, teacher, 1e5), centred / (CLASSES * 5), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", [kd, zscore_kd, soft_cross_entropy])
def test_gradient_keeps_its_scale_between_temperatures_16_and_64(loss, pair):
    ratio = gradient(loss, *pair, 16.0).norm() / gradient(loss, *pair, 64.0).norm()
    assert ratio.item() == pytest.approx(1, abs=0.1)


def test_gradient_of_kd_by_hand(pair):
    student, teacher = pair
    temperature = 4.0
    soft_student, soft_teacher = ((z / temperature).softmax(-1) for z in (student, teacher))
    expected = temperature * (soft_student - soft_teacher) / len(student)  # T^2 * (1/T) (q - p), mean over the batch
    torch.testing.assert_close(gradient(kd, student, teacher, temperature), expected)
    torch.testing.assert_close(gradient(soft_cross_entropy, student, teacher, temperature), expected)


@pytest.mark.parametrize("factor", [0.1, 10.0, 100.0])
def test_gradient_of_zscore_kd_grows_as_the_students_deviation_shrinks(factor, pair):
    student, teacher = pair
    before = gradient(zscore_kd, student, teacher, 2.0)
    torch.testing.assert_close(gradient(zscore_kd, factor * student, teacher, 2.0), before / factor, rtol=1e-4, atol=0)
    # it is orthogonal to both directions that the z-score removes
    assert before.sum(-1).abs().max() < 1e-12
    assert (before * center(student)).sum(-1).abs().max() < 1e-7


def test_toy_case_of_the_paper():
    """Sun et al., figure 2: plain KL prefers the wrong student, KL after the z-score the right one."""
    teacher, wrong, right = (
        torch.tensor([row], dtype=torch.float64) for row in (TEACHER, NEAR_BUT_WRONG, FAR_BUT_RIGHT)
    )
    assert (teacher.argmax().item(), wrong.argmax().item(), right.argmax().item()) == (DOG, BIRD, DOG)
    assert kd(wrong, teacher, temperature=1) < kd(right, teacher, temperature=1) - 0.1
    assert zscore_kd(right, teacher, temperature=1) < 1e-10 < 0.05 < zscore_kd(wrong, teacher, temperature=1)

    def by_numpy(student, ddof):
        z_student, z_teacher = ((np.array(z) - np.mean(z)) / np.std(z, ddof=ddof) for z in (student, TEACHER))
        p, q = (np.exp(z) / np.exp(z).sum() for z in (z_teacher, z_student))
        return (p * np.log(p / q)).sum()

    value = zscore_kd(wrong, teacher, temperature=1).item()
    assert value == pytest.approx(by_numpy(NEAR_BUT_WRONG, ddof=1), rel=1e-5)
    assert value != pytest.approx(by_numpy(NEAR_BUT_WRONG, ddof=0), rel=0.05)


def test_the_logits_mean_cannot_matter(pair):
    """The ablation "mean only" is plain KD: another computation of the same number."""
    student, teacher = (side.float() for side in pair)
    centred = transformed_kd(
        student, teacher, temperature=2.0, student_transform=center, teacher_transform=center
    ).item()
    assert centred == pytest.approx(kd(student, teacher, temperature=2.0).item(), rel=1e-5)


def test_mean_over_the_batch_of_per_sample_terms(pair):
    student, teacher = pair
    for loss in (kd, zscore_kd, soft_cross_entropy):
        terms = [loss(s[None], t[None], temperature=2.0).item() for s, t in zip(student, teacher, strict=True)]
        assert loss(student, teacher, temperature=2.0).item() == pytest.approx(math.fsum(terms) / len(terms))
