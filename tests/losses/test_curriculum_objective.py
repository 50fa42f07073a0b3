"""CTKD: the temperature's gradient has the reversed sign and the ramped size, the student's is KD's."""

import math
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.losses import CurriculumKD, GlobalTemperature, InstanceTemperature, Task, kd, standardize
from distill.training import seeded

CLASSES = 6
LABELS = torch.tensor([1, 0, 5, 4])
BATCH = SimpleNamespace(labels=LABELS)
NETWORK = SimpleNamespace(num_classes=CLASSES)
TASK = Task(8, LABELS)


def output(seed, scale=1.0):
    drawn = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SimpleNamespace(logits=(scale * drawn).requires_grad_())


@pytest.fixture
def student():
    return output(1)


@pytest.fixture
def teacher():
    return output(2, 3.0)


def at(epochs):
    return torch.tensor(float(epochs), dtype=torch.float64)


def ctkd(module=None, **changed):
    module = GlobalTemperature(start=1.0, span=20.0) if module is None else module
    numbers = {"ce_weight": 0.1, "kd_weight": 0.9, "ramp_epochs": 10} | changed
    objective = CurriculumKD(temperature_module=module, **numbers)
    with seeded(3, "attach"):
        assert objective.attach(NETWORK, NETWORK, TASK) is None
    return objective.double()


def instance(**changed):
    return InstanceTemperature(**{"start": 1.0, "span": 20.0, "hidden": 16} | changed)


def strength(epoch):
    return (1 - math.cos(math.pi * min(epoch / 10, 1))) / 2


def test_value_and_the_students_gradient_are_those_of_kd_at_this_temperature(student, teacher):
    temperature = 1 + 20 / (1 + math.exp(-1))
    assert temperature == pytest.approx(15.62, abs=0.01)
    term = ctkd()(student, teacher, BATCH, at(300))["kd"]
    expected = 0.9 * kd(student.logits, teacher.logits, temperature=temperature)
    torch.testing.assert_close(term, expected)
    grads = [torch.autograd.grad(value, student.logits)[0] for value in (term, expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(("epochs", "epoch"), [(0, 1), (0.9, 1), (1, 2), (4.5, 5), (9, 10), (300, 10)])
def test_sign_and_size_of_the_temperatures_gradient(epochs, epoch, student, teacher):
    """d/dg = -lambda_e * 0.9 * d(T^2 KL)/dT * 20 sigmoid'(g), the slope by a difference quotient of kd."""
    objective = ctkd()
    g = objective.temperature_module.g
    with torch.no_grad():
        g.fill_(-0.4)
    s = 1 / (1 + math.exp(0.4))
    temperature, step = 1 + 20 * s, 1e-5
    sides = student.logits.detach(), teacher.logits.detach()
    above, below = (kd(*sides, temperature=temperature + sign * step).item() for sign in (1, -1))
    slope = (above - below) / (2 * step)
    objective(student, teacher, BATCH, at(epochs))["kd"].backward()
    expected = -strength(epoch) * 0.9 * slope * 20 * s * (1 - s)
    assert g.grad.item() == pytest.approx(expected, rel=1e-6)
    assert abs(slope) > 1e-3


@pytest.mark.parametrize("module", [None, instance()], ids=["global", "instance"])
def test_a_step_of_the_temperature_makes_it_harder(module, student, teacher):
    objective = ctkd(module)
    first = objective(student, teacher, BATCH, at(300))["kd"]
    first.backward()
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter -= 0.01 * parameter.grad  # gradient descent, as the optimizer does it
    assert objective(student, teacher, BATCH, at(300))["kd"] > first


def test_the_ramp_scales_the_temperatures_gradient_and_nothing_else(student, teacher):
    gradients = {}
    for epochs in (0, 300):
        objective = ctkd()
        student.logits.grad = None
        terms = objective(student, teacher, BATCH, at(epochs))
        sum(terms.values()).backward()
        gradients[epochs] = terms["kd"].item(), student.logits.grad.clone(), objective.temperature_module.g.grad.item()
    assert gradients[0][0] == gradients[300][0]
    assert torch.equal(gradients[0][1], gradients[300][1])
    assert gradients[0][2] == pytest.approx(strength(1) * gradients[300][2], rel=1e-6)


def test_the_temperature_stays_in_its_range(student, teacher):
    module = GlobalTemperature(start=2.0, span=40.0).double()
    for g, temperature in ((-100.0, 2.0), (0.0, 22.0), (100.0, 42.0), (1.0, 2 + 40 / (1 + math.exp(-1)))):
        with torch.no_grad():
            module.g.fill_(g)
        assert module(student.logits, teacher.logits, strength=at(1)).item() == pytest.approx(temperature)


def test_a_temperature_for_every_sample(student, teacher):
    objective = ctkd(instance())
    module = objective.temperature_module
    temperatures = module(student.logits, teacher.logits, strength=at(1))
    assert temperatures.shape == (4, 1)
    assert len(set(temperatures.flatten().tolist())) == 4
    assert all(1 < t < 21 for t in temperatures.flatten().tolist())
    term = objective(student, teacher, BATCH, at(300))["kd"]
    rows = [
        kd(student.logits[i : i + 1], teacher.logits[i : i + 1], temperature=temperatures[i].item()) for i in range(4)
    ]
    torch.testing.assert_close(term, 0.9 * torch.stack(rows).mean())


def test_the_student_does_not_play_against_itself(student, teacher):
    """Its gradient is KD's at the temperatures of the moment: none comes back through the MLP."""
    objective = ctkd(instance())
    temperatures = objective.temperature_module(student.logits, teacher.logits, strength=at(1)).detach()
    objective(student, teacher, BATCH, at(300))["kd"].backward()
    soft_s, soft_t = ((side.logits.detach() / temperatures).softmax(-1) for side in (student, teacher))
    torch.testing.assert_close(student.logits.grad, 0.9 * temperatures * (soft_s - soft_t) / 4)


def test_the_zscore_is_before_the_kl_and_not_before_the_module(student, teacher):
    objective = ctkd(transform=standardize)
    temperature = 1 + 20 / (1 + math.exp(-1))
    expected = 0.9 * kd(standardize(student.logits), standardize(teacher.logits), temperature=temperature)
    terms = objective(student, teacher, BATCH, at(300))
    torch.testing.assert_close(terms["kd"], expected)
    plain, standardised = (ctkd(instance(), **k) for k in ({}, {"transform": standardize}))
    seen = [o.temperature_module(student.logits, teacher.logits, strength=at(1)) for o in (plain, standardised)]
    assert torch.equal(*seen)


def test_what_is_learned_joins_the_optimizer_and_the_checkpoint():
    assert list(ctkd().state_dict()) == ["temperature_module.g"]
    keys = [f"temperature_module.mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]
    objective = ctkd(instance())
    assert list(objective.state_dict()) == keys
    assert [name for name, _ in objective.named_parameters()] == keys
    assert objective.temperature_module.mlp[0].weight.shape == (16, 2 * CLASSES)
    assert objective.temperature_module.mlp[2].bias.item() == 1
    assert ctkd(instance(initial=-2.5)).temperature_module.mlp[2].bias.item() == -2.5
    assert GlobalTemperature(start=1.0, span=20.0, initial=-2.5).g.item() == -2.5


def test_who_needs_a_teacher(student):
    with pytest.raises(ValueError, match="choose teacher=NAME"):
        CurriculumKD(temperature_module=instance(), ce_weight=0.1, kd_weight=0.9, ramp_epochs=10).attach(
            NETWORK, None, TASK
        )
    labels_only = CurriculumKD(temperature_module=instance(), ce_weight=1.0, kd_weight=0, ramp_epochs=10)
    assert not labels_only.needs_teacher
    labels_only.attach(nn.Linear(2, 2), None, TASK)
    assert list(labels_only(student, None, BATCH, at(0))) == ["ce"]


SENTENCES = [
    (partial(GlobalTemperature, start=0, span=20), "start must be > 0, got 0: set loss.temperature_module.start"),
    (partial(GlobalTemperature, start=math.inf, span=20), "start must be finite, got inf: "),
    (partial(GlobalTemperature, start=1, span=-1), "span must be >= 0, got -1: set loss.temperature_module.span"),
    (partial(GlobalTemperature, start=1, span=1, initial=math.nan), "initial must be finite, got nan: "),
    (partial(instance, hidden=0), "hidden must be >= 1, got 0: set loss.temperature_module.hidden"),
    (partial(instance, start=-1), "start must be > 0, got -1: set loss.temperature_module.start"),
    (partial(ctkd, ramp_epochs=0), "ramp_epochs must be >= 1, got 0: set loss.ramp_epochs"),
    (partial(ctkd, kd_weight=-1), "kd_weight must be >= 0, got -1: set loss.kd_weight"),
]


@pytest.mark.parametrize(("build", "sentence"), SENTENCES)
def test_refusals_name_value_rule_and_fix(build, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        build()
