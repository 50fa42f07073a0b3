"""Losses on logits against their formulas, written a second time: plain Python, row by row, float64."""

import math
from functools import partial

import pytest
import torch

from distill.losses import (
    center,
    cross_entropy,
    identity,
    kd,
    logit_mse,
    scale,
    soft_cross_entropy,
    standardize,
    transformed_kd,
    zscore_kd,
)

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)


def softmax(row, temperature):
    powers = [math.exp(z / temperature) for z in row]
    return [power / math.fsum(powers) for power in powers]


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def zscores(row):
    mean = math.fsum(row) / len(row)
    deviation = math.sqrt(math.fsum((z - mean) ** 2 for z in row) / (len(row) - 1))
    return [(z - mean) / (deviation + 1e-7) for z in row]


def reference(student, teacher, temperature, divergence=kl, transform=list):
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    terms = [
        temperature**2 * divergence(softmax(transform(t), temperature), softmax(transform(s), temperature))
        for s, t in rows
    ]
    return math.fsum(terms) / len(terms)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, 6, 11, dtype=torch.float64, generator=generator)
    return 3 * draw() + 0.7, 2 * draw() - 1.3


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_values(pair, temperature):
    student, teacher = pair
    value = kd(student, teacher, temperature=temperature)
    assert value.shape == ()
    assert value.item() == pytest.approx(reference(student, teacher, temperature), rel=1e-12)
    value = zscore_kd(student, teacher, temperature=temperature)
    assert value.item() == pytest.approx(reference(student, teacher, temperature, transform=zscores), rel=1e-12)
    value = soft_cross_entropy(student, teacher, temperature=temperature)
    expected = reference(
        student,
        teacher,
        temperature,
        lambda p, q: -math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True)),
    )
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_values_without_temperature(pair):
    student, teacher = pair
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    squared = [math.fsum((a - b) ** 2 for a, b in zip(s, t, strict=True)) for s, t in rows]
    assert logit_mse(student, teacher).item() == pytest.approx(math.fsum(squared) / 6, rel=1e-12)
    labels = torch.tensor([0, 3, 10, 2, 5, 5])
    picked = [-math.log(softmax(s, 1.0)[y]) for s, y in zip(student.tolist(), labels.tolist(), strict=True)]
    assert cross_entropy(student, labels).item() == pytest.approx(math.fsum(picked) / 6, rel=1e-12)


def test_anchors_by_hand():
    def row(*values):
        return torch.tensor([values], dtype=torch.float64)

    # softmax(ln 3, 0) = (3/4, 1/4) against (1/2, 1/2); at T = 2 twice the logits give the same, and T^2 = 4
    once = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert once == pytest.approx(0.1308120359, abs=1e-10)
    assert kd(row(0, 0), row(math.log(3), 0), temperature=1).item() == pytest.approx(once, abs=1e-15)
    assert kd(row(0, 0), row(2 * math.log(3), 0), temperature=2).item() == pytest.approx(4 * once, abs=1e-15)
    # z(1, 2, 3) = (-1, 0, 1); one normaliser for both: KL = sum p (z - -z) = 4 sinh 1 / (1 + 2 cosh 1)
    reversed_ranks = zscore_kd(row(3, 2, 1), row(10, 20, 30), temperature=1).item()
    assert reversed_ranks == pytest.approx(4 * math.sinh(1) / (1 + 2 * math.cosh(1)), abs=1e-6)
    assert reversed_ranks == pytest.approx(1.1504205, abs=1e-6)
    # a student without opinion: -T^2 log(1/2), whatever the teacher
    assert soft_cross_entropy(row(0, 0), row(5, -2), temperature=3).item() == pytest.approx(9 * math.log(2))
    # ((1 + 4) + (0 + 9)) / 2 rows
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    assert logit_mse(student, teacher).item() == 7.0


def test_transformed_kd_by_its_formula(pair):
    student, teacher = pair

    def over_deviation(row):
        return [z / torch.tensor(row, dtype=torch.float64).std().item() for z in row]

    cases = {
        (scale, scale): (over_deviation, over_deviation),
        (identity, standardize): (list, zscores),
        (standardize, identity): (zscores, list),
        (center, center): (list, list),
    }
    for (student_transform, teacher_transform), (of_student, of_teacher) in cases.items():
        value = transformed_kd(
            student,
            teacher,
            temperature=2.0,
            student_transform=student_transform,
            teacher_transform=teacher_transform,
        )
        rows = zip(student.tolist(), teacher.tolist(), strict=True)
        terms = [4 * kl(softmax(of_teacher(t), 2.0), softmax(of_student(s), 2.0)) for s, t in rows]
        assert value.item() == pytest.approx(math.fsum(terms) / 6, rel=1e-6), (
            student_transform,
            teacher_transform,
        )


@pytest.mark.parametrize("loss", [kd, zscore_kd, soft_cross_entropy])
def test_gradcheck_of_student_teacher_and_temperature(loss, pair):
    student, teacher = (side[:2, :5].clone().requires_grad_() for side in pair)
    temperature = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t, tau: loss(s, t, temperature=tau), (student, teacher, temperature))


@pytest.mark.parametrize("transform", [standardize, partial(standardize, unbiased=False), scale, center])
def test_gradcheck_of_transforms(transform, pair):
    assert torch.autograd.gradcheck(transform, (pair[0].clone().requires_grad_(),))


def test_gradcheck_of_logit_mse(pair):
    assert torch.autograd.gradcheck(logit_mse, tuple(side.clone().requires_grad_() for side in pair))


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_temperature_may_be_a_tensor_of_any_format(number_format, pair):
    student, teacher = (side.float() for side in pair)
    temperature = torch.tensor(2.3, dtype=number_format)
    for loss in (kd, zscore_kd, soft_cross_entropy):
        by_tensor = loss(student, teacher, temperature=temperature)
        assert by_tensor.dtype == torch.float32
        torch.testing.assert_close(by_tensor, loss(student, teacher, temperature=temperature.item()))
