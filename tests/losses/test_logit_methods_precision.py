"""Half types, float64 and rows without any variation, for the losses of all logit methods."""

import pytest
import torch

from distill.losses import (
    batch_correlation,
    class_correlation,
    class_mass,
    confidence,
    instance_alignment,
    inter_class,
    intra_class,
    kd_by_sample,
    lower_half,
    nckd,
    nkd_nontarget,
    nkd_target,
    smoothed_cross_entropy,
    standardize,
    tckd,
    ttm,
    virtual_teacher_kd,
    weighted_soft_labels,
    wttm,
)

HALVES = (torch.bfloat16, torch.float16)
LABELS = torch.arange(8) * 12


def standardised(loss):
    return lambda s, t: loss(standardize(s), standardize(t), LABELS, temperature=2.0)


def level(loss, known):
    return lambda s, t: loss(s, t, temperature=4.0, weights=lower_half(known(t)))


LOSSES = {
    "tckd": lambda s, t: tckd(s, t, LABELS, temperature=4.0),
    "nckd": lambda s, t: nckd(s, t, LABELS, temperature=4.0),
    "zscore tckd": standardised(tckd),
    "zscore nckd": standardised(nckd),
    "nkd_target": lambda s, t: nkd_target(s, t, LABELS),
    "nkd_nontarget": lambda s, t: nkd_nontarget(s, t, LABELS, temperature=3.0),
    "ttm": lambda s, t: ttm(s, t, temperature=10.0),
    "wttm": lambda s, t: wttm(s, t, temperature=10.0),
    "weighted_soft_labels": lambda s, t: weighted_soft_labels(s, t, LABELS, temperature=4.0),
    "inter_class": lambda s, t: inter_class(s, t, temperature=4.0),
    "intra_class": lambda s, t: intra_class(s, t, temperature=4.0),
    "instance": level(instance_alignment, confidence),
    "batch": level(batch_correlation, confidence),
    "class": level(class_correlation, class_mass),
    "kd_by_sample": lambda s, t: kd_by_sample(s, t, temperature=torch.linspace(1, 20, 8)[:, None]),
    "smoothed": lambda s, t: smoothed_cross_entropy(s, LABELS, smoothing=0.1),
    "virtual": lambda s, t: virtual_teacher_kd(s, LABELS, temperature=20.0, correct_probability=0.99),
}


def rows(kind="ordinary"):
    student, teacher = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(5))
    if "student" in kind:
        student = torch.arange(8.0)[:, None].expand(8, 100).clone()
    if "teacher" in kind:
        teacher = torch.full_like(teacher, 0.1)
    return student, 3 * teacher


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_half_logits_give_the_float32_loss_of_the_same_numbers(name, half):
    student, teacher = (side.to(half) for side in rows())
    value = LOSSES[name](student, teacher)
    assert value.dtype == torch.float32
    assert value == LOSSES[name](student.float(), teacher.float())


@pytest.mark.parametrize("name", LOSSES)
def test_float64_is_kept(name):
    assert LOSSES[name](*(side.double() for side in rows())).dtype == torch.float64


@pytest.mark.parametrize("number_format", [torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_ordinary_rows_have_a_finite_gradient(name, number_format):
    student, teacher = (side.to(number_format) for side in rows())
    student.requires_grad_()
    value = LOSSES[name](student, teacher)
    (grad,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert grad.dtype == number_format
    assert grad.isfinite().all()
    assert (grad != 0).any()


@pytest.mark.parametrize("kind", ["student", "teacher", "student and teacher"])
@pytest.mark.parametrize(
    ("name", "number_format"),
    [  # the z-score's 1/eps = 1e7 is no float16: see `standardize`
        (name, number_format)
        for name in LOSSES
        for number_format in (torch.float32, *HALVES)
        if not (name.startswith("zscore") and number_format == torch.float16)
    ],
    ids=str,
)
def test_constant_rows_are_finite_at_a_float32_leaf(name, number_format, kind):
    student, teacher = rows(kind)
    student.requires_grad_()
    value = LOSSES[name](student.to(number_format), teacher.to(number_format))
    (grad,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert grad.isfinite().all()
