"""When a checkpoint is written: the rules hold for random costs and steps."""

import itertools
import random

import pytest

from distill.runs.checkpoint import CheckpointSchedule


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(schedule: CheckpointSchedule, clock: Clock, *, step: float, cost: float, steps: int) -> list[float]:
    """The instants at which the saves of a run began."""
    saves = []
    for _ in range(steps):
        clock.now += step
        if schedule.due():
            saves.append(clock.now)
            with schedule.saving():
                clock.now += cost
    return saves


@pytest.mark.parametrize("case", range(60))
def test_saving_never_exceeds_its_share_and_never_comes_before_its_interval(case: int) -> None:
    draw = random.Random(case)
    interval, share = draw.choice([0.0, 1.0, 30.0]), draw.choice([0.02, 0.1, 1.0])
    cost, step = 10 ** draw.uniform(-3, 1), 10 ** draw.uniform(-2, 1)
    clock = Clock()
    schedule = CheckpointSchedule(interval, share=share, clock=clock)
    begin = clock.now
    saves = simulate(schedule, clock, step=step, cost=cost, steps=3000)
    for number, instant in enumerate(saves[1:], start=2):  # the cost of the first is not known before it
        assert number * cost <= share * (instant - begin) * (1 + 1e-9)
    assert saves[0] - begin <= interval + 2 * step
    assert all(later - earlier >= interval for earlier, later in itertools.pairwise([begin, *saves]))
    # and no lazier than the rules ask for: the longest pause is what the interval or the share demands
    allowed = max(interval, cost / share) + cost + 2 * step
    assert all(later - earlier <= allowed * 1.01 for earlier, later in itertools.pairwise([*saves[1:], clock.now]))


def test_the_first_save_is_measured_and_thins_the_next_ones() -> None:
    clock = Clock()
    schedule = CheckpointSchedule(1.0, share=0.02, clock=clock)
    saves = simulate(schedule, clock, step=1.0, cost=0.5, steps=100)
    assert saves[0] == 1001.0  # nothing known yet: after the interval
    assert saves[1] - 1000.0 >= (0.5 + 0.5) / 0.02  # both together are 2 % of what went by


def test_a_save_nobody_asked_for_counts_too_even_when_it_fails() -> None:
    clock = Clock()
    schedule = CheckpointSchedule(0.0, share=0.02, clock=clock)
    clock.now += 10.0

    def save() -> None:
        with schedule.saving():
            clock.now += 5.0
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save()
    clock.now += 400.0
    assert not schedule.due()
    clock.now += 100.0
    assert schedule.due()
