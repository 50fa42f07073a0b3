"""The gradients of every term by epoch are those of the next step, and the run goes on as if nobody had asked."""

import json
import math
from types import SimpleNamespace

import method_trials
import pytest
import torch
from method_presets import METHODS
from torch import nn
from torch.nn import functional as F

from distill.data import StrongView
from distill.losses import CrossEntropy, Objective
from distill.models import Output
from distill.teachers import LiveTeacher
from distill.training import Evaluation, Member, gradients, member
from distill.training.gradients import gradient_norms
from distill.training.randomness import OwnRandomness
from distill.training.world import ALONE


def norms_of(recorder) -> list[dict[str, float]]:
    return [json.loads(line)["gradient_norms"] for line in recorder.lines]


def by_hand(terms: dict[str, torch.Tensor], network: nn.Module) -> dict[str, float]:
    """One backward pass after the other into `.grad`."""
    found = {}
    for name, term in terms.items():
        network.zero_grad(set_to_none=True)
        term.backward(retain_graph=True)
        grads = [p.grad.flatten().double() for p in network.parameters() if p.grad is not None]
        found[name] = float(torch.cat(grads).norm())
    return found


def test_they_are_what_autograd_says_of_the_next_batch(lab, teacher) -> None:
    trained = lab.member(lab.soft_targets(), teacher=teacher, recipe=lab.recipe(1))
    (done,) = lab.run(trained)
    batch = next(trained.stream.epoch(2))
    student = trained.student.train()
    s, t = student(batch.images).logits, teacher(batch).logits
    ce = F.cross_entropy(s, batch.labels)
    kd = F.kl_div(F.log_softmax(s / 4, 1), F.log_softmax(t / 4, 1), reduction="batchmean", log_target=True) * 16
    (found,) = norms_of(done)
    assert list(found) == ["ce", "kd"]
    assert found == pytest.approx(by_hand({"ce": 0.1 * ce, "kd": 0.9 * kd}, student), rel=1e-4)
    assert found["kd"] > 0


class Watching(Objective):
    """Cross-entropy of noisy logits and a term that no network reaches; keeps its first gradients of each epoch."""

    needs_teacher = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, list[int]]] = []

    def forward(self, student, teacher, batch, progress):
        self.offset += 0.01
        noisy = student.logits + torch.randn(student.logits.shape) + self.offset
        ce = (1 + progress) * F.cross_entropy(noisy, batch.labels)
        self.seen.append((ce.detach().clone(), batch.index.tolist()))
        return {"ce": ce, "aside": self.offset.square()}


def test_they_are_those_of_the_very_next_step(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch, dropout, the objective's noise, what it remembers and the progress: to the bit."""
    asked: list[tuple[torch.Tensor, list[int]]] = []
    copies = gradients._copies

    def noted(member: Member):
        student, objective = copies(member)
        asked.append(objective.seen)
        return student, objective

    monkeypatch.setattr(gradients, "_copies", noted)
    trained = lab.member(Watching(), student=lab.network(1, dropout=0.5), recipe=lab.recipe(3))
    (done,) = lab.run(trained)
    own = trained.objective.seen
    assert len(own) == 3 * lab.steps  # nothing of the copies' is left in it
    for epoch in (1, 2):
        value, index = asked[epoch - 1][-1]
        assert index == own[epoch * lab.steps][1]
        assert torch.equal(value, own[epoch * lab.steps][0])
    assert [norms["aside"] for norms in norms_of(done)] == [0.0] * 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_and_without_them_is_the_same(lab, teacher, monkeypatch: pytest.MonkeyPatch, precision) -> None:
    def trained():
        one = lab.member(
            lab.Learner() if precision == "fp32" else lab.soft_targets(),
            teacher=teacher,
            student=lab.network(1, dropout=0.3),
            precision=precision,
            checkpoints=lab.DueAt(always=True),
        )
        lab.run(one)
        return one

    outside = torch.random.get_rng_state()
    with_them = trained()
    assert torch.equal(torch.random.get_rng_state(), outside)
    monkeypatch.setattr(member, "gradient_norms", lambda member: {})
    without = trained()
    assert with_them.recorder.weights == without.recorder.weights
    lines = [json.loads(line) for line in with_them.recorder.lines]
    assert all(set(line.pop("gradient_norms")) == set(line["train"]) - {"accuracy", "loss"} for line in lines)
    assert lines == [json.loads(line) for line in without.recorder.lines]
    for mine, other in zip(with_them.recorder.saved, without.recorder.saved, strict=True):
        assert mine[0].keys() == other[0].keys()
        assert all(torch.equal(tensor, other[0][name]) for name, tensor in mine[0].items())


@pytest.mark.parametrize(
    ("epochs", "every", "measured"),
    [
        (7, 3, [3, 6, 7]),
        (6, 3, [3, 6]),
        (4, 9, [4]),
        (4, 1, [1, 2, 3, 4]),
        (47, None, list(range(1, 48))),
        (49, None, [*range(2, 49, 2), 49]),
    ],
)
def test_at_intervals_and_after_the_last_epoch(lab, monkeypatch, epochs: int, every: int | None, measured) -> None:
    trained = lab.member(recipe=lab.recipe(epochs), norms_every=every)
    monkeypatch.setattr(trained.stream, "epoch", lambda epoch, start=0: iter(()))
    monkeypatch.setattr(member, "gradient_norms", lambda member: {"ce": float(member.epoch)})
    trained.begin_epoch(lambda: 0.0)
    for _ in range(epochs):
        trained.end_epoch(Evaluation(1, 2, 50.0, 1.0), None, seconds=0.0)
    recorded = [json.loads(line) for line in trained.recorder.lines]
    assert len(recorded) == epochs
    assert [line["epoch"] for line in recorded if "gradient_norms" in line] == measured


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_a_resumed_run_measures_after_the_same_epochs(lab, teacher, steps: int) -> None:
    def make() -> Member:
        return lab.member(lab.soft_targets(), teacher=teacher, recipe=lab.recipe(4), norms_every=3)

    whole, stopped, resumed = make(), make(), make()
    lab.run(whole)
    lab.run(stopped, stop_requested=lab.stop_after(steps))
    tensors, state, lines = stopped.recorder.saved[0]
    resumed.restore(tensors, state)
    lab.run(resumed)
    assert [*stopped.recorder.lines[:lines], *resumed.recorder.lines] == whole.recorder.lines
    assert ["gradient_norms" in line for line in whole.recorder.lines] == [False, False, True, True]
    assert resumed.recorder.weights == whole.recorder.weights


class TwoViews(CrossEntropy):
    """Both views by one teacher."""

    needs_teacher, two_views, strong_view = True, True, StrongView(ops=1)

    def forward(self, student, teacher, batch, progress):
        terms = super().forward(student, teacher, batch, progress)
        return {**terms, "strong": F.mse_loss(student.strong.logits, teacher.strong.logits)}


def test_with_a_strong_view_and_a_teacher_that_is_asked_once(lab, teacher) -> None:
    asked = []

    class Counting:
        key, network = teacher.key, teacher.network

        def __call__(self, batch) -> Output:
            asked.append(batch.index.tolist())
            return teacher(batch)

    (done,) = lab.run(lab.member(TwoViews(), teacher=Counting(), recipe=lab.recipe(2)))
    assert all(norms["strong"] > 0 for norms in norms_of(done))
    assert len(asked) == 2 * (lab.steps + 1)
    assert asked[lab.steps] == asked[lab.steps + 1]  # of the next epoch, whose first batch it is


class Pointing(CrossEntropy):
    """Points at student and teacher, as an objective may."""

    needs_teacher = True

    def attach(self, student, teacher, task):
        self.pointers = [student, teacher, teacher.conv]


def test_what_both_have_in_common_is_copied_once_and_the_teacher_not_at_all(lab, teacher) -> None:
    trained = lab.member(Pointing(), teacher=teacher)
    student, objective = gradients._copies(trained)
    assert student is not trained.student
    assert objective is not trained.objective
    assert objective.pointers[0] is student
    assert objective.pointers[1] is teacher.network
    assert objective.pointers[2] is teacher.network.conv
    assert student.training
    assert not teacher.network.training


class Uncopied(CrossEntropy):
    """Keeps a tensor with its history, which nobody can copy."""

    def forward(self, student, teacher, batch, progress):
        self.kept = student.logits * 2
        return super().forward(student, teacher, batch, progress)


class Unwilling(CrossEntropy):
    """Answers only as often as there are steps."""

    def __deepcopy__(self, memo):
        copied = CrossEntropy()
        copied.forward = lambda *_: 1 / 0
        return copied


@pytest.mark.parametrize("objective", [Uncopied, Unwilling])
def test_what_cannot_be_asked_is_left_out_and_the_run_goes_on(lab, objective) -> None:
    (done,) = lab.run(lab.member(objective()))
    assert all("gradient_norms" not in json.loads(line) for line in done.lines)
    assert done.weights == lab.run(lab.member())[0].weights


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_asked(method: str) -> None:
    """Finite, of the terms it has, and nothing of it has moved."""
    trial = method_trials.trial(method)
    cpu = torch.device("cpu")
    one = SimpleNamespace(
        name=method,
        student=trial.student,
        objective=trial.objective,
        teacher=None if trial.teacher is None else LiveTeacher(trial.teacher, weights="", precision="fp32", taps=True),
        stream=SimpleNamespace(epoch=lambda epoch: iter([trial.batch()])),
        epoch=5,
        progress=torch.tensor(5.0),
        taps=not trial.objective.logits_only,
        precision="fp32",
        randomness=OwnRandomness(1, cpu),
        device=cpu,
        world=ALONE,
        batch_count=lambda step: method_trials.ROWS,
    )
    modules = [each for each in (trial.student, trial.objective, trial.teacher) if each is not None]
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
    norms = gradient_norms(one)
    assert norms
    assert all(math.isfinite(value) and value >= 0 for value in norms.values())
    assert any(value > 0 for value in norms.values())
    for module, state in zip(modules, before, strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, state[name]), name
        assert all(parameter.grad is None for parameter in module.parameters())
