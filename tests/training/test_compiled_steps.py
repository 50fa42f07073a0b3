"""Compiled networks train as eager ones, and no weight, temperature or schedule makes torch compile again."""

import shutil
import warnings

import pytest
import torch
from silent import Silent
from torch._dynamo.utils import counters

from distill.losses import zscore_kd
from distill.models import resnet8
from distill.teachers import LiveTeacher
from distill.training import (
    compiled,
    compiled_surroundings,
    compiled_trial,
    evaluate,
    fit,
    seeded,
    why_not_compiled,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-4


class Losses(Silent):
    """The loss of each step."""

    def __init__(self) -> None:
        self.values, self.totals = [], {}

    def step(self, member) -> None:
        total = member.meters.read()["loss"] * member.meters.count
        self.values.append(total - self.totals.get(member, 0.0))
        self.totals[member] = 0.0 if member.step == member.stream.steps else total


def network(seed: int):
    with seeded(seed, "student"):
        return resnet8(num_classes=4)


@pytest.mark.slow
def test_ten_steps_as_eager_and_one_compilation_for_all(lab) -> None:
    teacher = LiveTeacher(network(9), weights="teacher", precision="fp32", taps=False)

    def make(temperature: float, divergence=None, lr: float = 0.02):
        loss = lab.soft_targets(temperature, *([divergence] if divergence else []))
        recipe = lab.recipe(4, lr=lr)
        return lab.member(loss, student=network(1), teacher=teacher, recipe=recipe)

    # eager first
    eager, watch = make(4.0), Losses()
    fit([eager], watch=watch)
    torch._dynamo.reset()
    counters.clear()
    ours, seen = make(4.0), Losses()
    with compiled([ours]):
        fit([ours], watch=seen)
        first = counters["stats"]["unique_graphs"]
        assert first == 4  # student and teacher, the full batch and the remainder
        assert len(seen.values) == 12
        assert seen.values[:10] == pytest.approx(watch.values[:10], rel=TOLERANCE)
        assert ours.recorder.weights != eager.recorder.weights  # other kernels have been at work
        assert ours.recorder.result["last"] == {
            "epoch": 4,
            **evaluate(ours.student, ours.evaluation, precision="fp32").as_dict(),
        }
    assert ours.forward is ours.student
    assert set(ours.student.state_dict()) == set(eager.student.state_dict())

    others = [make(2.0), make(8.0, zscore_kd), make(1.5, lr=0.1)]
    with compiled(others):
        fit(others, watch=Silent())
    assert all(other.error is None for other in others)
    assert counters["stats"]["unique_graphs"] == first


@pytest.mark.slow
def test_a_compiled_loss_and_teacher_train_as_eager_ones(lab) -> None:
    def make(temperature: float = 4.0):
        teacher = LiveTeacher(network(9), weights="teacher", precision="fp32", taps=False)
        return lab.member(lab.soft_targets(temperature, zscore_kd), student=network(1), teacher=teacher)

    eager, watch = make(), Losses()
    fit([eager], watch=watch)
    torch._dynamo.reset()
    counters.clear()
    ours, seen, other = make(), Losses(), make(2.0)
    with compiled_surroundings([ours, other]):
        fit([ours, other], watch=seen)
    assert counters["stats"]["unique_graphs"] == 6  # one teacher and two losses, the full batch and the remainder
    assert not counters["graph_break"]
    assert seen.values[::2] == pytest.approx(watch.values, rel=TOLERANCE)
    assert ours.weigh is other.weigh is eager.weigh


@pytest.mark.slow
def test_a_method_with_state_resumes_to_the_byte(lab) -> None:
    """Dropout, noise, a buffer that learns and a layer of its own, compiled before and after the stop."""
    teacher = LiveTeacher(lab.network(9, width=9), weights="teacher", precision="fp32", taps=False)

    def make():
        return lab.member(lab.Learner(), student=lab.network(1, dropout=0.3), teacher=teacher, recipe=lab.recipe(2))

    def run(member, **options):
        with compiled([member]):
            lab.run(member, **options)

    whole, stopped, resumed = make(), make(), make()
    run(whole)
    run(stopped, stop_requested=lab.stop_after(4))
    resumed.restore(*stopped.recorder.saved[0][:2])
    run(resumed)
    assert resumed.recorder.weights == whole.recorder.weights


def test_no_warning_of_products_that_are_exact_on_purpose(lab) -> None:
    """Compiling for CUDA warns in torch 2.11; the tests, like a user's -W error, turn every warning into an error."""
    text = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled. Consider setting"
    with compiled([lab.member()]):
        warnings.warn(text, UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="another"):
            warnings.warn("another", UserWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="TensorFloat32"):
        warnings.warn(text, UserWarning, stacklevel=1)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_compiled(CPU) is None or not shutil.which("g++")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "mycc")
    assert why_not_compiled(CPU) == "there is no C++ compiler (mycc, g++, clang++, c++, cl)"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not_compiled(torch.device("cuda")) == "triton is not installed"


def test_a_compiler_that_fails_is_found_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling = []

    def broken(function):
        compiling.append(function)
        raise RuntimeError("Failed to find C compiler.\nSet CC.")

    assert compiled_trial(CPU) is None or why_not_compiled(CPU)
    compiled_trial.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    for _ in range(2):
        assert compiled_trial(CPU) == "RuntimeError: Failed to find C compiler. Set CC."
    assert len(compiling) == 1
    compiled_trial.cache_clear()


def test_a_teacher_that_can_be_compiled_is(lab, teacher) -> None:
    asked = []

    class Compilable:
        key, network = "compilable", teacher.network

        def compile(self) -> None:
            asked.append(self)

    member, other = lab.member(lab.soft_targets(), teacher=Compilable()), lab.member()
    with compiled([member, other]):
        assert asked == [member.teacher]
        assert member.forward is not member.student
    assert (member.forward, other.forward) == (member.student, other.student)
