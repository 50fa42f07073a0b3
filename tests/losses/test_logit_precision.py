"""Half types: computed in float32, finite in value and gradient at a float32 leaf; float64 stays."""

import pytest
import torch

from distill.losses import (
    at_least_float32,
    center,
    cross_entropy,
    kd,
    logit_mse,
    scale,
    soft_cross_entropy,
    standardize,
    transformed_kd,
    zscore_kd,
)

HALVES = (torch.bfloat16, torch.float16)
FORMATS = (torch.float32, *HALVES)


def deviation_only(student, teacher):
    return transformed_kd(student, teacher, temperature=2.0, student_transform=scale, teacher_transform=scale)


LOSSES = {
    "kd": lambda s, t: kd(s, t, temperature=4.0),
    "zscore_kd": lambda s, t: zscore_kd(s, t, temperature=2.0),
    "soft_cross_entropy": lambda s, t: soft_cross_entropy(s, t, temperature=4.0),
    "logit_mse": logit_mse,
    "deviation_only": deviation_only,
    "cross_entropy": lambda s, t: cross_entropy(s, t.argmax(-1)),
}


def rows(kind):
    generator = torch.Generator().manual_seed(5)
    student, teacher = torch.randn(2, 8, 100, generator=generator)
    if kind == "constant student":
        student = torch.arange(8.0)[:, None].expand(8, 100).clone()
    if kind == "constant teacher":
        teacher = torch.full_like(teacher, 0.1)
    if kind == "both constant":
        student, teacher = torch.zeros_like(student), torch.full_like(teacher, 3.0)
    return student, 3 * teacher


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_logits_give_the_float32_loss_of_the_same_numbers(name, half):
    student, teacher = (side.to(half) for side in rows("ordinary"))
    value = LOSSES[name](student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, LOSSES[name](student.float(), teacher.float()))


@pytest.mark.parametrize("name", LOSSES)
def test_float64_is_kept(name):
    student, teacher = (side.double() for side in rows("ordinary"))
    assert LOSSES[name](student, teacher).dtype == torch.float64


@pytest.mark.parametrize("transform", [standardize, center, scale])
def test_transforms_raise_half_types(transform):
    student, _ = rows("ordinary")
    assert transform(student.bfloat16()).dtype == torch.float32
    assert transform(student.double()).dtype == torch.float64


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("number_format", FORMATS, ids=str)
def test_ordinary_rows_are_finite_at_a_float32_leaf(name, number_format):
    student, teacher = rows("ordinary")
    student.requires_grad_()
    value = LOSSES[name](student.to(number_format), teacher.to(number_format))
    (grad,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert grad.dtype == torch.float32
    assert grad.isfinite().all()
    assert (grad != 0).any()


@pytest.mark.parametrize("kind", ["constant student", "constant teacher", "both constant"])
@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_constant_rows_are_finite_at_a_float32_leaf(name, number_format, kind):
    student, teacher = rows(kind)
    student.requires_grad_()
    value = LOSSES[name](student.to(number_format), teacher.to(number_format))
    (grad,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert grad.isfinite().all()


def test_constant_rows_in_float16_are_finite_until_the_cast_back():
    """1/eps = 1e7 is no float16: the loss and its float32 gradient are sound, the way back is not."""
    student, teacher = rows("constant student")
    half = student.half().requires_grad_()
    raised = at_least_float32(half)
    value = zscore_kd(raised, teacher, temperature=2.0)
    (grad,) = torch.autograd.grad(value, raised)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert grad.abs().max() > torch.finfo(torch.float16).max
    value = zscore_kd(half, teacher.half(), temperature=2.0)
    (grad,) = torch.autograd.grad(value, half)
    assert value.isfinite()
    assert grad.isinf().any()


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_standardize_does_not_lose_digits_to_half_types(half):
    logits = rows("ordinary")[0].to(half)
    torch.testing.assert_close(standardize(logits).double(), standardize(logits.double()), rtol=1e-4, atol=1e-6)
