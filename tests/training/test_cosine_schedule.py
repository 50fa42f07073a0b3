"""The cosine schedule: its formula, its warm-up, and what it refuses."""

import math
import re

import pytest

from distill.training import Cosine


def test_half_a_cosine_from_one_to_final() -> None:
    schedule = Cosine(final=0.01)
    factors = [schedule(epoch, 300) for epoch in range(1, 301)]
    assert factors[0] == 1
    assert factors[150] == pytest.approx(0.01 + 0.99 / 2)  # half way
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(0.01 + 0.99 * (1 + math.cos(math.pi * 299 / 300)) / 2, rel=1e-12)
    assert Cosine()(300, 300) < 1e-4


def test_the_warm_up_is_a_line_multiplied_on() -> None:
    plain, warmed = Cosine(final=0.01), Cosine(final=0.01, warmup=20 / 300, warmup_start=0.001)
    ratios = [warmed(epoch, 300) / plain(epoch, 300) for epoch in range(1, 301)]
    assert ratios[0] == pytest.approx(0.001)
    assert ratios[10] == pytest.approx(0.001 + 0.999 / 2)
    assert ratios[20:] == [1.0] * 280
    assert ratios[19] < 1


def test_a_shortened_recipe_keeps_its_shape() -> None:
    schedule = Cosine(final=0.1, warmup=0.25)
    assert [schedule(e, 8) for e in (1, 3, 5)] == pytest.approx([schedule(e, 80) for e in (1, 21, 41)])


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("final", 1.5, "between 0 and 1"),
        ("warmup", 20, "a share of the training in [0, 1)"),
        ("warmup_start", 0, "in (0, 1]"),
    ],
)
def test_ranges(name: str, value: float, rule: str) -> None:
    sentence = f"{name} must be {rule}, got {value}: set recipe.schedule.{name}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Cosine(**{name: value})
