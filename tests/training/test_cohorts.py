"""A member of a cohort ends as it would have ended alone, byte for byte."""

import pytest
import torch

from distill.data import EvaluationStream, ImageStream
from distill.losses import zscore_kd
from distill.teachers import LiveTeacher

MEASURED = ("seconds", "peak_memory_bytes")


class Counting:
    """A teacher that counts how often it is asked."""

    def __init__(self, teacher: LiveTeacher, key: str | None = None) -> None:
        self.teacher, self.key, self.network, self.calls = teacher, key or teacher.key, teacher.network, 0

    def __call__(self, batch):
        self.calls += 1
        output = self.teacher(batch)
        assert not output.logits.requires_grad
        return output


@pytest.fixture
def recipes(lab, teacher):
    """Functions that make the members of a varied cohort, each on its own."""
    return {
        "ce": lambda: lab.member(),
        "kd": lambda: lab.member(lab.soft_targets(), teacher=teacher),
        "zscore": lambda: lab.member(lab.soft_targets(2.0, zscore_kd), teacher=teacher),
        "other seed": lambda: lab.member(lab.soft_targets(), teacher=teacher, seed=2),
        "dropout": lambda: lab.member(student=lab.network(1, dropout=0.5)),
        "learner": lambda: lab.member(lab.Learner(), teacher=teacher, student=lab.network(3, dropout=0.2), seed=3),
        "other recipe": lambda: lab.member(recipe=lab.recipe(lr=0.02)),
    }


def test_every_member_ends_as_alone(lab, recipes) -> None:
    alone = {name: lab.run(make())[0] for name, make in recipes.items()}
    together = dict(zip(recipes, lab.run(*(make() for make in recipes.values())), strict=True))
    for name in recipes:
        assert together[name].weights == alone[name].weights, name
        assert together[name].lines == alone[name].lines, name
        assert {k: v for k, v in together[name].result.items() if k not in MEASURED} == {
            k: v for k, v in alone[name].result.items() if k not in MEASURED
        }
    assert len({done.weights for done in alone.values()}) == len(alone)


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_members_at_other_positions_catch_up(lab, recipes, steps: int) -> None:
    """One member is resumed inside epoch 1, at its end or inside epoch 2, two begin anew."""
    names = ("kd", "zscore", "other seed")
    alone = {name: lab.run(recipes[name]())[0] for name in names}
    stopped = recipes["zscore"]()
    lab.run(stopped, stop_requested=lab.stop_after(steps))
    tensors, state, lines = stopped.recorder.saved[0]
    resumed = recipes["zscore"]()
    resumed.restore(tensors, state)
    fresh, other = recipes["kd"](), recipes["other seed"]()
    lab.run(resumed, fresh, other)
    assert fresh.recorder.weights == alone["kd"].weights
    assert fresh.recorder.lines == alone["kd"].lines
    assert other.recorder.weights == alone["other seed"].weights
    assert resumed.recorder.weights == alone["zscore"].weights
    assert stopped.recorder.lines[:lines] + resumed.recorder.lines == alone["zscore"].lines


def test_a_stop_while_one_catches_up_leaves_the_others_checkpoint_alone(lab, recipes) -> None:
    stopped = recipes["kd"]()
    lab.run(stopped, stop_requested=lab.stop_after(4))
    ahead, behind = recipes["kd"](), recipes["other seed"]()
    ahead.restore(*stopped.recorder.saved[0][:2])
    lab.run(ahead, behind, stop_requested=lab.stop_after(1))
    assert (ahead.epoch, ahead.step, ahead.recorder.saved) == (2, 1, [])
    assert [(s["epoch"], s["step"]) for _, s, _ in behind.recorder.saved] == [(1, 1)]


@pytest.mark.usefixtures("ungraded")
def test_the_teacher_is_asked_once_for_a_shared_batch(lab, teacher) -> None:
    counting = Counting(teacher)
    losses = [lab.soft_targets(), lab.soft_targets(2.0), lab.soft_targets(2.0, zscore_kd)]
    lab.run(*(lab.member(loss, teacher=counting) for loss in losses), lab.member())
    assert counting.calls == 2 * lab.steps


@pytest.mark.usefixtures("ungraded")
def test_equal_teachers_are_one_and_streams_are_told_apart(lab, teacher) -> None:
    first, same, other = Counting(teacher), Counting(teacher), Counting(teacher, key="other")
    members = [
        lab.member(lab.soft_targets(), teacher=first),
        lab.member(lab.soft_targets(), teacher=same),  # another object, the same key
        lab.member(lab.soft_targets(), teacher=other),
        lab.member(lab.soft_targets(), teacher=first, seed=2),
    ]
    lab.run(*members)
    assert (first.calls, same.calls, other.calls) == (4 * lab.steps, 0, 2 * lab.steps)


@pytest.mark.usefixtures("ungraded")
def test_equal_streams_are_drawn_once(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [lab.member(), lab.member(student=lab.network(5)), lab.member(seed=2)]
    drawn = []

    def counted(stream, epoch):
        drawn.append((stream.seed, epoch))
        return draws(stream, epoch)

    draws = ImageStream.draws
    monkeypatch.setattr(ImageStream, "draws", counted)
    lab.run(*members)
    assert sorted(drawn) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_evaluation_images_are_drawn_once_for_all_members(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def make():
        averaged = lab.member(recipe=lab.recipe(ema=0.8))
        others = lab.member(seed=2), lab.member()
        others[1].evaluation = EvaluationStream(lab.dataset, batch_size=5, device="cpu")
        return [averaged, *others]

    alone = [lab.run(member)[0] for member in make()]
    passes, batches = [], EvaluationStream.__iter__
    monkeypatch.setattr(
        EvaluationStream, "__iter__", lambda stream: passes.append(stream.batch_size) or batches(stream)
    )
    together = lab.run(*make())
    assert passes == 2 * [8, 5, 8]  # an epoch's: two members, the one with other batches, the averaged weights
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.lines, ours.weights) == (theirs.lines, theirs.weights)


def test_the_time_of_an_evaluation_is_divided_among_its_members(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now, batches = [0.0], EvaluationStream.__iter__

    def slow(stream):
        now[0] += 6
        return batches(stream)

    monkeypatch.setattr(EvaluationStream, "__iter__", slow)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for done in lab.run(lab.member(), lab.member(seed=2)):
        assert [timing["evaluation_seconds"] for timing in done.timings] == [3, 3]
        assert [timing["seconds"] for timing in done.timings] == [0, 0]
        assert done.result["seconds"] == 6


def test_the_teacher_stays_as_it_was(lab, teacher) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    assert before["norm.running_mean"].abs().sum() == 0  # training mode would move it
    member = lab.member(lab.soft_targets(), teacher=teacher, checkpoints=lab.DueAt(always=True))
    (done,) = lab.run(member)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.network.state_dict().items())
    assert not any(module.training for module in teacher.network.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())
    learned = {id(p) for group in member.optimizer.param_groups for p in group["params"]}
    assert not learned & {id(p) for p in teacher.network.parameters()}
    for tensors, state, _ in done.saved:
        assert not any("teacher" in name for name in (*tensors, *state))
        assert {tensor.shape for name, tensor in tensors.items() if name.endswith("conv.weight")} == {(6, 3, 3, 3)}
