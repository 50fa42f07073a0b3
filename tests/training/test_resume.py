"""Resumed equals uninterrupted, byte for byte, wherever the checkpoint fell."""

from functools import partial

import pytest
import torch

from distill.training import NonFinite

MEASURED = ("seconds", "peak_memory_bytes")
STEPS = 3  # an epoch
EPOCHS = 3
OPTIMIZERS = {
    "momentum": None,
    "plain": partial(torch.optim.SGD, lr=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.01),
}


def stable(result):
    """What does not depend on clock and memory."""
    return {key: value for key, value in result.items() if key not in MEASURED}


@pytest.fixture(params=OPTIMIZERS)
def make(request, lab, teacher):
    """Members with dropout in the student and an objective that has parameters, a buffer and noise."""

    def member(**options):
        return lab.member(
            lab.Learner(),
            teacher=teacher,
            student=lab.network(1, dropout=0.3),
            recipe=lab.recipe(EPOCHS, optimizer=OPTIMIZERS[request.param]),
            conditions={"threads": 1},
            **options,
        )

    return member


def optimizer_state(member):
    return {
        (index, key): value
        for index, entries in member.optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }


def assert_same_end(resumed, earlier_lines, whole) -> None:
    """Student, metrics, objective, optimizer and generators of the resumed member are those of `whole`."""
    assert resumed.recorder.weights == whole.recorder.weights
    assert earlier_lines + resumed.recorder.lines == whole.recorder.lines
    ours, theirs = optimizer_state(resumed), optimizer_state(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(v, theirs[k]) if isinstance(v, torch.Tensor) else v == theirs[k] for k, v in ours.items())
    for mine, other in ((resumed.objective, whole.objective), (resumed.student, whole.student)):
        state = other.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in mine.state_dict().items())
    assert torch.equal(resumed.randomness.state["cpu"], whole.randomness.state["cpu"])
    result, expected = resumed.recorder.result, whole.recorder.result
    assert stable(result) == stable(expected)


def test_stopped_after_any_step(make, lab) -> None:
    whole = make()
    lab.run(whole)
    assert len(whole.recorder.lines) == EPOCHS
    for steps in range(1, STEPS * EPOCHS + 1):
        stopped = make()
        lab.run(stopped, stop_requested=lab.stop_after(steps))
        assert stopped.active
        assert stopped.recorder.result is None
        ((tensors, state, lines),) = stopped.recorder.saved
        assert (state["epoch"], state["step"]) == ((steps - 1) // STEPS + 1, (steps - 1) % STEPS + 1)
        resumed = make()
        resumed.restore(tensors, state)
        lab.run(resumed)
        assert_same_end(resumed, stopped.recorder.lines[:lines], whole)
        assert resumed.recorder.result["seconds"] >= state["seconds"] > 0


def test_saved_at_the_end_of_an_epoch(make, lab) -> None:
    whole = make()
    saving = make(checkpoints=lab.DueAt(STEPS + 1, 2 * (STEPS + 1)))
    lab.run(whole)
    lab.run(saving)
    assert saving.recorder.weights == whole.recorder.weights  # saving changes nothing
    assert [(state["epoch"], state["step"]) for _, state, _ in saving.recorder.saved] == [(2, 0), (3, 0)]
    for tensors, state, lines in saving.recorder.saved:
        resumed = make()
        resumed.restore(tensors, state)
        lab.run(resumed)
        assert_same_end(resumed, saving.recorder.lines[:lines], whole)


def test_a_checkpoint_holds_what_it_says(lab, teacher) -> None:
    member = lab.member(lab.Learner(), teacher=teacher, conditions={"threads": 1, "torch": "x"})
    lab.run(member, stop_requested=lab.stop_after(2))
    ((tensors, state, _),) = member.recorder.saved
    parts = {name.split("/")[0] for name in tensors}
    assert parts == {"student", "objective", "randomness", "meters", "optimizer"}
    student = {name.removeprefix("student/") for name in tensors if name.startswith("student/")}
    assert student == set(lab.network().state_dict())
    assert {n for n in tensors if n.startswith("objective/")} == {
        "objective/project.weight",
        "objective/project.bias",
        "objective/memory",
    }
    momenta = [name for name in tensors if name.endswith("momentum_buffer")]
    assert len(momenta) == len(list(member.student.parameters())) + 2
    assert state["conditions"] == {"threads": 1, "torch": "x"}
    assert (state["epoch"], state["step"], state["count"]) == (1, 2, 32)
    assert state["terms"] == ["ce", "projected", "memory"]


def test_the_rate_of_a_resumed_epoch_is_that_of_the_schedule(lab) -> None:
    """The optimizer's state holds the rate it had; the base rate is the recipe's."""
    stopped = lab.member(recipe=lab.recipe(4))
    lab.run(stopped, stop_requested=lab.stop_after(8))
    tensors, state, _ = stopped.recorder.saved[0]
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.01)
    resumed = lab.member(recipe=lab.recipe(4))
    resumed.restore(tensors, state)
    lab.run(resumed)
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_state_that_was_saved_can_be_resumed_twice(make, lab) -> None:
    stopped = make()
    lab.run(stopped, stop_requested=lab.stop_after(4))
    tensors, state, _ = stopped.recorder.saved[0]
    ends = []
    for _ in range(2):
        resumed = make()
        resumed.restore(tensors, state)
        lab.run(resumed)
        ends.append(resumed.recorder.weights)
    assert ends[0] == ends[1]


def test_a_request_to_stop_reaches_every_member(lab) -> None:
    members = [lab.member(seed=seed) for seed in (1, 2, 3)]
    lab.run(*members, stop_requested=lab.stop_after(2))
    for member in members:
        assert member.active
        assert [(s["epoch"], s["step"]) for _, s, _ in member.recorder.saved] == [(1, 2)]


def test_a_poisoned_member_keeps_nobody_from_saving_on_request(lab) -> None:
    sound, poisoned = lab.member(seed=1), lab.member(seed=2)
    asked = lab.stop_after(2)

    def stop_requested() -> bool:
        poisoned.student.norm.running_mean.fill_(float("inf"))
        return asked()

    lab.run(poisoned, sound, stop_requested=stop_requested)
    assert isinstance(poisoned.error, NonFinite)
    assert poisoned.recorder.saved == []
    assert poisoned.recorder.failure["term"] == "student/norm.running_mean"
    assert sound.active
    assert len(sound.recorder.saved) == 1
