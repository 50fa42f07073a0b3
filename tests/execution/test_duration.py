"""Durations as they are printed."""

import pytest

from distill.execution.progress import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (45.4, "45 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (99.9 * 3600, "99 h 54 min"),
        (5 * 86400 + 3.2 * 3600, "5 d 03 h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
