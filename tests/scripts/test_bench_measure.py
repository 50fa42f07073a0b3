"""Rounds and their statistics; a paused and continued training is `fit`, undisturbed by others."""

import threading
from contextlib import contextmanager

import pytest
import torch
from silent import Silent

from distill.training import Member, NonFinite, fit
from scripts.bench.lab import Lab
from scripts.bench.measure import Figure, PausedTraining, Ratio, Variant, measure


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # the machine is three times slower in the last round: both are, and the ratio does not move
    ratio = Ratio.of([2.0, 4.0, 9.0], [1.0, 1.6, 3.0])
    assert ratio.rounds == pytest.approx((2.0, 2.5, 3.0))
    assert ratio.median == pytest.approx(2.5)
    assert ratio.spread == pytest.approx(1.5)
    assert ratio.noisy
    assert not Ratio((2.0, 2.0, 2.6)).noisy
    assert Ratio((2.0, 2.7)).noisy


def test_rounds_of_unequal_number_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Ratio.of([1.0, 2.0], [1.0])


class Recorded:
    """Variants that write down who ran, and a clock by which each takes as long as its name says."""

    def __init__(self, **seconds: float) -> None:
        self.calls: list[str] = []
        self._seconds, self._now = seconds, 0.0
        self.variants = [
            Variant(name, units=2, run=self._told(name), prepare=self._told(f"prepare {name}")) for name in seconds
        ]

    def _told(self, text: str):
        return lambda: self.calls.append(text)

    def clock(self, run) -> float:
        run()
        return self._seconds[self.calls[-1]]


def test_every_variant_is_measured_in_every_round_and_the_order_alternates() -> None:
    lab = Recorded(a=4.0, b=6.0, c=8.0)
    costs = measure(lab.variants, rounds=4, warm_up=2, clock=lab.clock)
    assert costs == {"a": [2.0] * 4, "b": [3.0] * 4, "c": [4.0] * 4}
    assert all(f"prepare {name}" == before for before, name in zip(lab.calls[::2], lab.calls[1::2], strict=True))
    ran = lab.calls[1::2]
    orders = ["".join(ran[first : first + 3]) for first in range(0, len(ran), 3)]
    assert len(orders) == 6
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert {order[0] for order in orders} == {"a", "b", "c"}
    for one, other in ("ab", "bc", "ac"):
        before = sum(order.index(one) < order.index(other) for order in orders)
        assert 0 < before < 6, (one, other, orders)


def test_two_variants_take_turns_in_being_first() -> None:
    lab = Recorded(ours=1.0, peer=2.0)
    measure(lab.variants, rounds=4, warm_up=0, clock=lab.clock)
    first = lab.calls[1::2][::2]
    assert sorted(first) == ["ours", "ours", "peer", "peer"]


def test_a_figure_without_a_peer_has_a_cost_and_no_ratio() -> None:
    alone = Figure("run", "a run", "run", (), (5.0, 3.0, 4.0))
    assert (alone.ratio, alone.cost, alone.peer_cost) == (None, 4.0, None)
    compared = Figure("step", "a step", "step", (), (1.0, 2.0), (3.0, 8.0))
    assert compared.ratio is not None
    assert compared.ratio.rounds == (3.0, 4.0)
    assert compared.peer_cost == 5.5


def alone(member: Member, steps: int) -> Member:
    asked = iter(range(1, steps + 1))
    fit([member], watch=Silent(), stop_requested=lambda: next(asked) == steps)
    return member


def same(one: Member, other: Member) -> bool:
    a, b = one.state()[0], other.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_windows_of_several_trainings_in_turn_are_what_each_is_alone(lab: Lab) -> None:
    data, teacher = lab.steps(2), lab.live()
    members = [lab.member(data, teacher, seed=seed) for seed in (1, 2)]
    with PausedTraining(members[:1]) as one, PausedTraining(members[1:]) as other:
        one.go_on()
        assert (members[0].epoch, members[0].step) == (1, 2)
        other.whole_epoch()
        one.go_on()
        other.go_on()
        assert (members[0].epoch, members[0].step) == (2, 0)
        assert (members[1].epoch, members[1].step) == (2, 2)
        other_state = members[1]
        assert same(other_state, alone(lab.member(data, teacher, seed=2), 4))
        one.go_on()
        assert same(members[0], alone(lab.member(data, teacher, seed=1), 4))


def test_a_cohort_pauses_when_its_last_member_is_done(lab: Lab) -> None:
    members = lab.cohort(lab.steps(1), lab.live(), 3)
    with PausedTraining(members) as training:
        training.go_on()
        assert [member.step for member in members] == [1, 1, 1]
        training.go_on()
        assert [(member.epoch, member.step) for member in members] == [(2, 0)] * 3
    assert len({member.objective.temperature for member in members}) == 3


def test_leaving_ends_the_thread_and_nothing_is_trained_behind_ones_back(lab: Lab) -> None:
    threads = threading.active_count()
    with PausedTraining([member := lab.member(lab.steps(2), None)]) as training:
        training.go_on()
    with PausedTraining([lab.member(lab.steps(2), None)]):
        pass
    assert threading.active_count() == threads
    assert (member.epoch, member.step) == (1, 2)


def test_what_ends_a_training_is_raised_where_one_waits_for_it(lab: Lab) -> None:
    member = lab.member(lab.steps(1), None)
    with torch.no_grad():
        member.student.fc.weight.fill_(torch.nan)
    with PausedTraining([member]) as training:
        training.go_on()
        with pytest.raises(NonFinite, match="not finite"):
            training.go_on()
    short = lab.member(lab.steps(1), None, epochs=1)
    with PausedTraining([short]) as training:
        training.whole_epoch()
        with pytest.raises(RuntimeError, match="the training is over"):
            training.go_on()


def test_what_is_around_it_is_entered_once(lab: Lab) -> None:
    told: list[str] = []

    @contextmanager
    def around():
        told.append("in")
        yield
        told.append("out")

    with PausedTraining([lab.member(lab.steps(1), None)], around=around()) as training:
        assert told == []
        training.whole_epoch()
        training.whole_epoch()
        assert told == ["in"]
