"""A training that is paused and taken up again is `fit`, and several of them do not disturb each other."""

import threading
from contextlib import contextmanager

import pytest
import torch

from distill.bench.lab import Lab
from distill.bench.paused import PausedTraining
from distill.training import Member, NonFinite, Silent, fit


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
        other.epoch()
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
        training.epoch()
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
        training.epoch()
        training.epoch()
        assert told == ["in"]
