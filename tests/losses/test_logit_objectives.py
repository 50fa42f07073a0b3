"""CrossEntropy, SoftTargets, LogitRegression: named weighted terms, what they need, what they refuse.

The stand-ins offer logits and labels and nothing else, so an objective that says `logits_only` is held to it.
"""

import math
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.losses import (
    CrossEntropy,
    DecoupledKD,
    LogitRegression,
    Objective,
    PearsonKD,
    SoftTargets,
    Task,
    kd,
    logit_mse,
    zscore_kd,
)

PROGRESS = torch.tensor(0.0)
TASK = Task(8, torch.zeros(4, dtype=torch.int64))


@pytest.fixture
def student():
    generator = torch.Generator().manual_seed(6)
    return SimpleNamespace(logits=torch.randn(4, 10, generator=generator, requires_grad=True))


@pytest.fixture
def teacher():
    generator = torch.Generator().manual_seed(7)
    return SimpleNamespace(logits=(3 * torch.randn(4, 10, generator=generator)).requires_grad_())


@pytest.fixture
def batch():
    return SimpleNamespace(labels=torch.tensor([1, 0, 9, 4]))


def soft_targets(**changed):
    numbers = {"divergence": zscore_kd, "temperature": 2.0, "ce_weight": 0.1, "kd_weight": 9.0} | changed
    return SoftTargets(**numbers)


def test_cross_entropy_of_raw_logits_times_its_weight(student, batch):
    expected = torch.nn.functional.cross_entropy(student.logits, batch.labels)
    terms = CrossEntropy()(student, None, batch, PROGRESS)
    assert terms == {"ce": expected}
    torch.testing.assert_close(CrossEntropy(ce_weight=0.25)(student, None, batch, PROGRESS)["ce"], expected / 4)


@pytest.mark.parametrize("divergence", [kd, zscore_kd])
def test_soft_targets_terms_are_weighted(divergence, student, teacher, batch):
    terms = soft_targets(divergence=divergence)(student, teacher, batch, PROGRESS)
    assert list(terms) == ["ce", "kd"]
    cross_entropy = torch.nn.functional.cross_entropy(student.logits, batch.labels)
    torch.testing.assert_close(terms["ce"], 0.1 * cross_entropy)
    torch.testing.assert_close(terms["kd"], 9 * divergence(student.logits, teacher.logits, temperature=2.0))


def test_logit_regression_terms_are_weighted(student, teacher, batch):
    objective = LogitRegression(distance=logit_mse, ce_weight=0.5, kd_weight=0.25)
    terms = objective(student, teacher, batch, PROGRESS)
    assert list(terms) == ["ce", "kd"]
    torch.testing.assert_close(terms["ce"], 0.5 * torch.nn.functional.cross_entropy(student.logits, batch.labels))
    squared = (student.logits - teacher.logits).square().sum() / 4
    torch.testing.assert_close(terms["kd"], 0.25 * squared)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_terms_are_float32_for_half_logits(half, teacher, batch):
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(8)).to(half)
    half_student = SimpleNamespace(logits=logits)
    for name, term in soft_targets()(half_student, teacher, batch, PROGRESS).items():
        assert term.dtype == torch.float32, name
    expected = 0.1 * torch.nn.functional.cross_entropy(logits.float(), batch.labels)
    assert torch.equal(soft_targets()(half_student, teacher, batch, PROGRESS)["ce"], expected)


def test_a_function_of_ones_own_gets_float32_of_half_logits(teacher, batch):
    """A mean over half-typed numbers has two or three digits."""
    half_student = SimpleNamespace(logits=torch.randn(4, 10).bfloat16())
    half_teacher = SimpleNamespace(logits=teacher.logits.detach().bfloat16())
    expected = (half_student.logits.float() - half_teacher.logits.float()).abs().mean()

    def distance(student_logits, teacher_logits, **temperature):
        return (student_logits - teacher_logits).abs().mean()

    for objective in (
        soft_targets(divergence=distance, kd_weight=1.0),
        LogitRegression(distance=distance, ce_weight=0.1, kd_weight=1.0),
    ):
        assert torch.equal(objective(half_student, half_teacher, batch, PROGRESS)["kd"], expected)


@pytest.mark.parametrize(
    "build",
    [
        partial(DecoupledKD, temperature=4.0, ce_weight=1.0, target_weight=1.0, nontarget_weight=8.0, ramp_epochs=20),
        partial(PearsonKD, temperature=4.0, ce_weight=1.0, inter_weight=1.0, intra_weight=1.0),
    ],
)
def test_a_transform_of_ones_own_gets_float32_of_half_logits(build, teacher, batch):
    seen = []

    def transform(logits):
        seen.append(logits.dtype)
        return logits

    half_student = SimpleNamespace(logits=torch.randn(4, 10).bfloat16())
    half_teacher = SimpleNamespace(logits=teacher.logits.detach().bfloat16())
    build(transform=transform)(half_student, half_teacher, batch, PROGRESS)
    assert seen == [torch.float32] * 2


def refuse(*args, **kwargs):
    raise AssertionError("a term of weight 0 was computed")


def test_a_term_of_weight_zero_is_left_out(student, teacher, batch):
    labels_only = soft_targets(divergence=refuse, kd_weight=0, ce_weight=1.0)
    assert list(labels_only(student, None, batch, PROGRESS)) == ["ce"]
    assert list(soft_targets(ce_weight=0)(student, teacher, SimpleNamespace(), PROGRESS)) == ["kd"]
    regression = LogitRegression(distance=logit_mse, ce_weight=0, kd_weight=1)
    assert list(regression(student, teacher, SimpleNamespace(), PROGRESS)) == ["kd"]
    labels_only = LogitRegression(distance=refuse, ce_weight=1, kd_weight=0)
    assert list(labels_only(student, None, batch, PROGRESS)) == ["ce"]


@pytest.mark.parametrize(
    "objective",
    [
        soft_targets(divergence=kd),
        soft_targets(),
        LogitRegression(distance=logit_mse, ce_weight=0.1, kd_weight=0.01),
    ],
)
def test_no_gradient_reaches_the_teacher(objective, student, teacher, batch):
    sum(objective(student, teacher, batch, PROGRESS).values()).backward()
    assert teacher.logits.grad is None
    assert student.logits.grad.abs().sum() > 0


def test_who_needs_a_teacher(student, batch):
    assert not CrossEntropy().needs_teacher
    for objective in (soft_targets(), LogitRegression(distance=logit_mse, ce_weight=1, kd_weight=1)):
        assert objective.needs_teacher
        with pytest.raises(ValueError, match=r"teacher must be an output, got None: .*choose teacher=NAME"):
            objective(student, None, batch, PROGRESS)
    assert not soft_targets(kd_weight=0).needs_teacher
    assert not LogitRegression(distance=logit_mse, ce_weight=1, kd_weight=0).needs_teacher


@pytest.mark.parametrize(
    "objective",
    [CrossEntropy(), soft_targets(), LogitRegression(distance=logit_mse, ce_weight=1, kd_weight=1)],
)
def test_the_contract(objective):
    assert isinstance(objective, Objective)
    assert isinstance(objective, nn.Module)
    assert objective.logits_only
    assert not getattr(objective, "two_views", False)
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}
    network = nn.Linear(2, 2)
    assert objective.attach(network, None, TASK) is None
    assert objective.attach(network, nn.Linear(2, 2), TASK) is None


SENTENCES = [
    (
        partial(soft_targets, temperature=-1),
        "temperature must be > 0, got -1: set loss.temperature to a positive",
    ),
    (partial(soft_targets, temperature=0), "temperature must be > 0, got 0: "),
    (partial(soft_targets, temperature=math.nan), "temperature must be > 0, got nan: "),
    (partial(soft_targets, temperature=math.inf), "temperature must be finite, got inf: "),
    (
        partial(soft_targets, kd_weight=-0.5),
        "kd_weight must be >= 0, got -0.5: set loss.kd_weight to zero or a",
    ),
    (partial(soft_targets, ce_weight=-2), "ce_weight must be >= 0, got -2: set loss.ce_weight to zero or a"),
    (partial(soft_targets, kd_weight=math.inf), "kd_weight must be finite, got inf: "),
    (partial(soft_targets, ce_weight=math.nan), "ce_weight must be >= 0, got nan: "),
    (partial(soft_targets, ce_weight=0, kd_weight=0), "ce_weight and kd_weight must not both be 0"),
    (partial(CrossEntropy, ce_weight=0), "ce_weight must not be 0: set loss.ce_weight to a positive number"),
    (partial(CrossEntropy, ce_weight=-1), "ce_weight must be >= 0, got -1: "),
    (
        partial(LogitRegression, distance=logit_mse, ce_weight=0, kd_weight=0),
        "ce_weight and kd_weight must not both",
    ),
    (
        partial(LogitRegression, distance=logit_mse, ce_weight=1, kd_weight=-1),
        "kd_weight must be >= 0, got -1: ",
    ),
]


@pytest.mark.parametrize(("build", "sentence"), SENTENCES)
def test_refusals_name_value_rule_and_fix(build, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}") as refusal:
        build()
    assert ": set loss." in str(refusal.value)
