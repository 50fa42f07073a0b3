"""Verdicts and their intervals against scipy.stats and numpy, which the package itself never imports for them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distill.tables.published import Cell
from distill.tables.verdict import Verdict, judge

CELL = Cell(
    row="kd",
    column="pair",
    value=71.0,
    top5=None,
    epochs="last",
    runs=5,
    deviation=None,
    temperature=None,
    weights={},
    overrides=(),
    untrainable=None,
    notes=(),
)
OURS = [71.1, 70.9, 71.2, 71.0]


def judged(last: list[float], *, best: list[float] | None = None, **cell: Any) -> Verdict:
    """The verdict on seeds 1, 2, ..."""
    changed = replace(CELL, **cell)
    found = judge(last, best, changed, published_runs=changed.runs)
    assert found is not None
    return found


def expected(values: list[float], published: float, runs: int, *, n: int | None = None) -> tuple[float, float]:
    """d +- t(n - 1) s sqrt(1/n + 1/p), by numpy and scipy.stats; `n` runs in place of those there are."""
    n = n or len(values)
    half = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) * math.sqrt(1 / n + 1 / runs)
    difference = float(np.mean(values)) - published
    return difference - half, difference + half


def test_the_interval_holds_the_noise_of_both_sides() -> None:
    found = judged(OURS)
    assert (found.low, found.high) == pytest.approx(expected(OURS, 71.0, 5))
    assert found.difference == pytest.approx(0.05)
    assert (found.word, found.runs, found.why) == ("reproduced", None, "")


def test_an_unknown_number_of_published_runs_is_one() -> None:
    found = judged(OURS, runs=None)
    assert (found.low, found.high) == pytest.approx(expected(OURS, 71.0, 1))


def test_with_a_published_deviation_it_is_welchs() -> None:
    theirs = [70.0, 71.0, 72.5]
    found = judged(OURS, value=float(np.mean(theirs)), runs=3, deviation=float(np.std(theirs, ddof=1)))
    interval = stats.ttest_ind(OURS, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    a, b = np.var(OURS, ddof=1) / 4, 0.3**2  # one published run has no degrees of freedom to give
    half = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 3)) * math.sqrt(a + b)
    single = judged(OURS, deviation=0.3, runs=1)
    assert (single.low, single.high) == pytest.approx((0.05 - half, 0.05 + half))


@pytest.mark.parametrize(
    ("published", "word"),
    [
        (71.0, "reproduced"),
        (71.2, "reproduced"),
        (71.5, "undecided"),
        (70.6, "undecided"),
        (71.9, "not reproduced"),
        (70.2, "not reproduced"),
    ],
)
def test_words(published: float, word: str) -> None:
    low, high = expected(OURS, published, 5)
    inside, outside = low >= -0.5 and high <= 0.5, low > 0.5 or high < -0.5
    assert word == ("reproduced" if inside else "not reproduced" if outside else "undecided")
    assert judged(OURS, value=published).word == word


def test_the_rule_of_the_published_cell_chooses_the_epoch() -> None:
    best = [value + 0.9 for value in OURS]
    assert judged(OURS, best=best).word == "reproduced"
    assert judged(OURS, best=best, epochs="best on test").word == "not reproduced"
    unknown = judged(OURS, best=best, epochs="unknown")
    assert (unknown.low, unknown.high) == pytest.approx((expected(OURS, 71.0, 5)[0], expected(best, 71.0, 5)[1]))
    assert (unknown.word, unknown.difference) == ("undecided", None)
    agreed = judged(OURS, best=[value + 0.05 for value in OURS], epochs="unknown")
    assert agreed.word == "reproduced"
    assert judged(OURS, best=best, value=69.0, epochs="unknown").word == "not reproduced"


def test_the_number_of_runs_needed_is_the_least_that_decides() -> None:
    ours = [71.4, 71.0, 71.6, 71.2]
    found = judged(ours, value=71.2, runs=5)
    assert found.word == "undecided"
    assert found.runs is not None

    def decided(n: int) -> bool:
        low, high = expected(ours, 71.2, 5, n=n)
        return (low >= -0.5 and high <= 0.5) or low > 0.5 or high < -0.5

    assert decided(found.runs)
    assert not any(decided(n) for n in range(4, found.runs))


def test_no_number_of_runs_decides_against_a_noisy_published_number() -> None:
    ours = [71.4, 71.0, 71.6, 71.2]
    found = judged(ours, value=71.3, runs=1)
    noise = stats.norm.ppf(0.975) * np.std(ours, ddof=1)
    assert (found.word, found.runs) == ("undecided", None)
    assert found.why == f"no number of runs decides, published noise is ±{noise:.2f}"


def test_no_number_of_runs_decides_between_two_readings_that_disagree() -> None:
    found = judged(OURS, best=[value + 0.9 for value in OURS], epochs="unknown", runs=5)
    assert (found.word, found.runs) == ("undecided", None)
    assert found.why == "no number of runs decides, last and best epoch disagree"


def test_welchs_interval_may_grow_with_our_runs_and_its_number_is_still_the_least() -> None:
    ours = [71.3, 70.7, 71.2, 70.8]

    def decided(n: int) -> bool:
        a, b = np.var(ours, ddof=1) / n, 0.1**2 / 2
        half = stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / (n - 1) + b**2)) * math.sqrt(a + b)
        return 0.2 + half <= 0.5

    assert [decided(n) for n in (4, 20, 30, 1000)] == [False, True, False, False]
    found = judged(ours, value=70.8, runs=2, deviation=0.1)
    assert (found.word, found.runs) == ("undecided", next(n for n in range(5, 1000) if decided(n)))


def test_one_run_equal_scores_and_no_best_epoch_leave_it_undecided() -> None:
    one = judged([75.0])
    assert (one.word, one.difference, one.low, one.runs) == ("undecided", 4.0, None, None)
    assert one.why == "one run has no standard deviation"
    assert judged([75.0, 75.0]).why == "all seeds scored identically, variance unknown"
    assert judged(OURS, epochs="best on test").why == "no best epoch was recorded"
    assert judge([71.0], None, replace(CELL, value=None), published_runs=None) is None
