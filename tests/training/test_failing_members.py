"""What ends a member ends it alone, and is never saved."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from distill.losses import Objective
from distill.runs.files import StorageError
from distill.training import NonFinite


class Poison(Objective):
    """Cross-entropy beside a term that spoils something at one step (counted from 0 over the whole run)."""

    needs_teacher = False

    def __init__(self, at: int, spoil) -> None:
        super().__init__()
        self.at, self.spoil, self.asked = at, spoil, 0

    def attach(self, student, teacher, task):
        self.held = [student]  # in a list: not a module of this one

    def forward(self, student, teacher, batch, progress):
        spoilt = self.asked == self.at
        self.asked += 1
        zero = student.logits.sum() * 0
        return {
            "ce": F.cross_entropy(student.logits, batch.labels),
            "poison": zero + (self.spoil(self.held[0], student.logits) if spoilt else 0),
        }


def nan_term(network, logits):
    return torch.tensor(float("nan"))


def inf_term(network, logits):
    return torch.tensor(float("inf"))


def inf_weight(network, logits):
    """Only the state is poisoned: batch statistics are used in training, so no term ever shows it."""
    network.norm.running_var.data[2] = float("inf")
    return 0


def huge_gradient(network, logits):
    """Finite, value and gradient, but its square is not."""
    return ((logits - logits.detach()) * 1e30).sum()


@pytest.mark.parametrize("spoil", [nan_term, inf_term])
@pytest.mark.parametrize(("at", "epoch", "step"), [(0, 1, 0), (1, 1, 1), (2, 1, 2), (4, 2, 1)])
def test_a_bad_term_stops_its_member_alone(lab, spoil, at: int, epoch: int, step: int) -> None:
    alone = lab.run(lab.member(seed=2))[0]
    poisoned, sound = lab.member(Poison(at, spoil)), lab.member(seed=2)
    stopped = []
    lab.run(poisoned, sound, watch=Stops(stopped))
    assert sound.recorder.weights == alone.weights
    assert sound.recorder.lines == alone.lines
    assert isinstance(poisoned.error, NonFinite)
    assert not poisoned.active
    failure = poisoned.recorder.failure
    assert (failure["epoch"], failure["step"], failure["term"]) == (epoch, step, "poison")
    sentence = f"poison is not finite at epoch {epoch}, step {step}: lower"
    assert failure["message"].startswith(sentence)
    assert (poisoned.recorder.result, poisoned.recorder.weights) == (None, b"")
    assert len(poisoned.recorder.lines) == epoch - 1
    assert stopped == [(poisoned, poisoned.error)]


class Stops:
    """A watch that writes down who stopped."""

    def __init__(self, seen: list) -> None:
        self.seen = seen

    def step(self, member) -> None: ...
    def epoch(self, member, measured) -> None: ...
    def stopped(self, member, error) -> None:
        self.seen.append((member, error))


@pytest.mark.parametrize("spoil", [nan_term, inf_weight])
def test_a_poisoned_state_is_never_saved(lab, spoil) -> None:
    member = lab.member(Poison(4, spoil), checkpoints=lab.DueAt(always=True))
    (done,) = lab.run(member)
    assert isinstance(member.error, NonFinite)
    positions = [(state["epoch"], state["step"]) for _, state, _ in done.saved]
    assert positions == [(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    for tensors, _, _ in done.saved:
        assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())
    assert done.failure["epoch"] == 2


def test_the_last_good_state_can_be_taken_up_again(lab) -> None:
    whole = lab.member(Poison(-1, nan_term))
    lab.run(whole)
    member = lab.member(Poison(4, nan_term), checkpoints=lab.DueAt(always=True))
    lab.run(member)
    resumed = lab.member(Poison(-1, nan_term))
    resumed.restore(*member.recorder.saved[-1][:2])
    lab.run(resumed)
    assert resumed.recorder.weights == whole.recorder.weights


def test_a_weight_alone_is_found_and_named_at_the_epochs_end(lab) -> None:
    member = lab.member(Poison(1, inf_weight))
    (done,) = lab.run(member)
    assert done.failure["term"] == "student/norm.running_var"
    assert (done.failure["epoch"], done.lines) == (1, [])


def test_the_optimizers_state_counts_too(lab) -> None:
    """Adam with an infinite second moment never moves that weight again, and nothing else shows it."""
    adam = partial(torch.optim.Adam, lr=0.01)
    member = lab.member(Poison(1, huge_gradient), recipe=lab.recipe(optimizer=adam))
    (done,) = lab.run(member)
    assert done.failure["term"].startswith("optimizer/")
    assert done.failure["term"].endswith("/exp_avg_sq")


def test_an_objectives_own_state_counts_too(lab) -> None:
    class Memory(Poison):
        def __init__(self) -> None:
            super().__init__(-1, nan_term)
            self.register_buffer("memory", torch.zeros(2))

        def forward(self, student, teacher, batch, progress):
            self.memory[1] = float("nan")
            return super().forward(student, teacher, batch, progress)

    (done,) = lab.run(lab.member(Memory()))
    assert done.failure["term"] == "objective/memory"


@pytest.mark.parametrize("method", ["save", "log_epoch", "finish"])
def test_a_full_disk_stops_its_member_alone_and_is_no_failure(lab, method: str) -> None:
    alone = lab.run(lab.member(seed=2))[0]
    struck, sound = lab.member(checkpoints=lab.DueAt(2)), lab.member(seed=2)

    def full(*_, **__):
        raise StorageError("the disk is full")

    setattr(struck.recorder, method, full)
    lab.run(struck, sound)
    assert sound.recorder.weights == alone.weights
    assert isinstance(struck.error, StorageError)
    assert not struck.active
    assert (struck.recorder.failure, struck.recorder.result) == (None, None)


def test_a_disk_too_full_for_the_failure_still_stops_one_member_only(lab) -> None:
    def full(*_):
        raise StorageError("the disk is full")

    poisoned, sound = lab.member(Poison(1, nan_term)), lab.member(seed=2)
    poisoned.recorder.fail = full
    lab.run(poisoned, sound)
    assert isinstance(poisoned.error, NonFinite)
    assert sound.recorder.result is not None


def test_what_nobody_foresaw_is_not_swallowed(lab) -> None:
    class Broken(Poison):
        def forward(self, student, teacher, batch, progress):
            raise KeyError("a bug")

    before = torch.random.get_rng_state()
    with pytest.raises(KeyError, match="a bug"):
        lab.run(lab.member(Broken(0, nan_term)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_is_drawn_for_members_that_have_all_stopped(lab) -> None:
    struck, asked = lab.member(checkpoints=lab.DueAt(1)), []

    def full(*_, **__):
        raise StorageError("the disk is full")

    struck.recorder.save = full
    lab.run(struck, stop_requested=lambda: asked.append(1) or False)
    assert isinstance(struck.error, StorageError)
    assert asked == []  # the epoch has three steps
