"""How many operations a training step dispatches: on a GPU each is a kernel or more, and a small network's step is as
long as they are many. docs/speed.md has the table."""

import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill.data import EvaluationStream, ImageStream, synthetic
from distill.losses import CrossEntropy, SoftTargets, kd, zscore_kd
from distill.models import folded, resnet8x4, resnet32x4
from distill.teachers import LiveTeacher
from distill.training import Eager, Member
from distill.training.lean_forward import LeanForward

CPU = torch.device("cpu")
# they move no data, or torch makes them of Python alone
FREE = {"detach", "_unsafe_view", "view", "empty", "empty_like", "empty_strided", "new_empty_strided", "lift_fresh"}
FREE |= {"promote_types", "_record_function_enter_new", "_record_function_exit"}
OBJECTIVES = {
    "ce": CrossEntropy,
    "kd": partial(SoftTargets, divergence=kd, temperature=4.0, ce_weight=0.1, kd_weight=0.9),
    "zscore_kd": partial(SoftTargets, divergence=zscore_kd, temperature=2.0, ce_weight=0.1, kd_weight=9.0),
}
NOW = {"batch": 7, "teacher": 83, "ce": 87, "kd": 108, "zscore_kd": 137}  # bf16, eager, torch 2.15
LABELS = {
    "batch": "batch: gather and normalise",
    "teacher": "live teacher resnet32x4, folded",
    "ce": "step of resnet8x4, cross-entropy",
    "kd": "step of resnet8x4, KD",
    "zscore_kd": "step of resnet8x4, Z-score KD",
}
SLACK = 3  # between versions of torch
TEACHER_BEFORE, BIASES = 153, 34  # on CUDA each bias is added by a kernel of its own, after the convolution
COMPILED = 67  # kernels of the folded teacher


class Operations(TorchDispatchMode):
    """Counts by name what is dispatched inside the block, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        if not func.is_view and name not in FREE:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return self.found.total()


@pytest.fixture(scope="module")
def images():
    return synthetic(classes=100, train_size=100, test_size=2, image_size=16, pad=2)


@pytest.fixture
def member(images, lab):
    """`member(name)`: a resnet8x4 in bf16 as on a GPU, with a resnet32x4 for a teacher where the loss needs one."""

    def make(name: str) -> Member:
        network, teacher = resnet32x4(), None
        if name != "ce":
            fast = folded(network, image_size=16)
            teacher = LiveTeacher(network, weights="teacher", precision="bf16", taps=False, fast=fast)
        student = resnet8x4().to(memory_format=torch.channels_last)
        made = lab.member(OBJECTIVES[name](), student=student, teacher=teacher, precision="bf16", batch_size=4)
        made.stream = ImageStream(images, batch_size=4, seed=1, device=CPU, dtype=torch.bfloat16)
        made.evaluation = EvaluationStream(images, batch_size=2, device=CPU)
        made.begin_epoch(lambda: 0.0)
        return made

    return make


def counted(member: Member) -> dict[str, int]:
    """Of the third step, when lazy state is there."""
    engine, batches = Eager(), member.stream.epoch(1)
    for _ in range(2):
        (_,) = engine.train([member], {member.stream.key: next(batches)})
        member.advance()
    with Operations() as of_batch:
        batch = next(batches)
    with Operations() as of_teacher:
        if member.teacher is not None:
            member.teacher(batch)
    with Operations() as of_step:
        (_,) = engine.train([member], {member.stream.key: batch})
    assert of_step.found["_fused_sgd_"] == 1
    return {"batch": of_batch.total, "teacher": of_teacher.total, "student": of_step.total - of_teacher.total}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_has_no_more_operations_than_the_documents_say(member, name: str) -> None:
    found = counted(member(name))
    assert found["batch"] <= NOW["batch"]
    assert found["student"] <= NOW[name] + SLACK
    assert found["teacher"] <= (NOW["teacher"] + SLACK if name != "ce" else 0)


def test_images_are_cast_by_no_network(member) -> None:
    """Their batch has cast them."""
    kd = member("kd")
    batch = next(kd.stream.epoch(1))

    class Casts(Operations):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if args and isinstance(args[0], torch.Tensor) and args[0].shape == batch.images.shape:
                self.found[func._schema.name] += 1
            return func(*args, **(kwargs or {}))

    with Casts() as seen:
        (_,) = Eager().train([kd], {kd.stream.key: batch})
    assert seen.found["aten::convolution"] == 2
    assert seen.found["aten::_to_copy"] == 0


def test_the_old_way_of_casting_and_counting_is_counted(member, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count sees what a lean forward saves: a cast of every weight and gradient, a counter for every BatchNorm."""
    monkeypatch.setattr(LeanForward, "__enter__", lambda self: None)
    monkeypatch.setattr(LeanForward, "__exit__", lambda self, *exc: None)
    assert counted(member("ce"))["student"] >= NOW["ce"] + 25


@pytest.mark.slow
def test_a_compiled_teacher_has_no_more_kernels_than_the_documents_say(images, monkeypatch) -> None:
    """As the compiler plans them; it stops before it makes code. A ReLU takes bias and shortcut with it."""
    planned: list[int] = []

    class Planned(Exception):
        pass

    def codegen(scheduler) -> None:
        planned.append(len(scheduler.nodes))
        raise Planned

    monkeypatch.setattr("torch._inductor.scheduler.Scheduler.codegen", codegen)
    network = resnet32x4().to(memory_format=torch.channels_last)
    fast = folded(network, image_size=16)
    teacher = LiveTeacher(network, weights="teacher", precision="bf16", taps=False, fast=fast)
    teacher.compile()
    with pytest.raises(RuntimeError, match="Planned"):
        teacher(next(ImageStream(images, batch_size=4, seed=1, device=CPU, dtype=torch.bfloat16).epoch(1)))
    assert planned[0] <= COMPILED + SLACK
    assert planned[0] <= 0.4 * (TEACHER_BEFORE + BIASES)
    torch._dynamo.reset()


def test_the_folded_teacher_has_a_bias_for_each_convolution() -> None:
    convolutions = [each for each in folded(resnet32x4(), image_size=16).modules() if isinstance(each, torch.nn.Conv2d)]
    assert sum(each.bias is not None for each in convolutions) == len(convolutions) == BIASES


def test_the_documents_have_these_numbers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "speed.md").read_text()
    rows = {name: rf"\| {label} \| \d+ \| {NOW[name]} \|" for name, label in LABELS.items()}
    assert [name for name, row in rows.items() if not re.search(row, text)] == []
    kernels = f"{TEACHER_BEFORE + BIASES} kernels before and {NOW['teacher'] + BIASES} now. Compiled it has {COMPILED}"
    assert kernels in " ".join(text.split())
