"""The learning rate falls exactly where the field's recipe lets it fall."""

import re

import pytest

from distill.training import Cosine, Steps

FIELD = (0.625, 0.75, 0.875)


def drops(schedule: Steps, epochs: int) -> list[int]:
    """The epochs from which on the factor is lower than before."""
    factors = [schedule(epoch, epochs) for epoch in range(1, epochs + 1)]
    assert factors[0] == 1.0
    return [epoch + 1 for epoch in range(1, epochs) if factors[epoch] < factors[epoch - 1]]


def test_at_240_epochs_it_falls_after_150_180_and_210() -> None:
    schedule = Steps(FIELD)
    assert drops(schedule, 240) == [151, 181, 211]
    at = {epoch: schedule(epoch, 240) for epoch in (150, 151, 180, 181, 210, 211, 240)}
    expected = {150: 1, 151: 0.1, 180: 0.1, 181: 0.01, 210: 0.01, 211: 0.001, 240: 0.001}
    assert at == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("epochs", "expected"), [(10, [7, 8, 9]), (8, [6, 7, 8]), (100, [63, 76, 88])])
def test_a_shortened_recipe_keeps_the_fractions(epochs: int, expected: list[int]) -> None:
    assert drops(Steps(FIELD), epochs) == expected


@pytest.mark.parametrize(("milestone", "epochs", "first"), [(0.29, 100, 30), (0.58, 50, 30), (0.57, 200, 115)])
def test_a_product_that_is_rounded_down_does_not_come_early(milestone: float, epochs: int, first: int) -> None:
    assert milestone * epochs < first - 1  # in floating point
    assert drops(Steps((milestone,)), epochs) == [first]


def test_milestones_of_one_epoch_do_not_matter() -> None:
    schedule = Steps(FIELD)
    assert schedule(1, 1) == pytest.approx(0.001)  # every milestone lies before the end of the only epoch
    assert Steps(())(240, 240) == 1.0


def test_the_warm_up_is_that_of_the_cosine_multiplied_on() -> None:
    plain, warmed = Steps(FIELD), Steps(FIELD, warmup=20 / 240, warmup_start=0.1)
    flat = Cosine(final=1.0, warmup=20 / 240, warmup_start=0.1)
    ratios = [warmed(epoch, 240) / plain(epoch, 240) for epoch in range(1, 241)]
    assert ratios == [pytest.approx(flat(epoch, 240)) for epoch in range(1, 241)]
    assert (ratios[0], ratios[10]) == (pytest.approx(0.1), pytest.approx(0.55))
    assert ratios[20:] == [1.0] * 220
    assert ratios[19] < 1


@pytest.mark.parametrize(("name", "value"), [("warmup", 1.0), ("warmup_start", 0.0)])
def test_ranges_of_the_warm_up(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}: set recipe\.schedule\.{name}"):
        Steps(FIELD, **{name: value})


def test_gamma_is_the_factor() -> None:
    assert Steps((0.25, 0.5), gamma=0.5)(4, 4) == 0.25


@pytest.mark.parametrize("milestone", [0, 1, -0.1, 150])
def test_milestones_are_fractions(milestone: float) -> None:
    sentence = f"milestones are fractions of the training between 0 and 1, got {milestone}: write epoch 150"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Steps((0.5, milestone))


@pytest.mark.parametrize("gamma", [0, -1, float("nan")])
def test_gamma_is_positive(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be > 0, got {gamma}: set recipe.schedule.gamma"):
        Steps((0.5,), gamma=gamma)


def test_all_faults_at_once() -> None:
    with pytest.raises(ValueError, match="milestones") as refused:
        Steps((2, 3), gamma=0)
    assert [line.split()[0] for line in str(refused.value).splitlines()] == ["milestones", "gamma"]
