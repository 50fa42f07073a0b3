"""Intervals against scipy.stats, which the package itself never imports."""

import numpy as np
import pytest
from scipy import stats

from distill.tables.statistics import blocks, correlation, holm, paired, summarize, welch

OURS = {1: 71.2, 2: 72.5, 3: 71.9, 4: 73.3}
THEIRS = {1: 70.4, 2: 71.6, 3: 71.3, 4: 71.1, 5: 69.0}


def test_mean_and_sample_deviation() -> None:
    found = summarize([1.0, 2.0, 6.0])
    assert (found.n, found.mean) == (3, 3.0)
    assert found.deviation == pytest.approx((14 / 2) ** 0.5)  # (4 + 1 + 9) / (n - 1)


def test_one_value_has_no_deviation() -> None:
    assert summarize([70.0]).deviation is None
    with pytest.raises(ValueError, match="at least 1 value, got 0"):
        summarize([])


def test_welch_is_scipys() -> None:
    ours, theirs = list(OURS.values()), list(THEIRS.values())
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = expected.confidence_interval(0.95)
    found = welch(ours, theirs)
    assert found is not None
    assert found.difference == pytest.approx(sum(ours) / 4 - sum(theirs) / 5)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.degrees == pytest.approx(expected.df)


def test_paired_is_scipys_over_the_common_seeds() -> None:
    seeds = [1, 2, 3, 4]
    ours, theirs = [OURS[seed] for seed in seeds], [THEIRS[seed] for seed in seeds]
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = paired(OURS, THEIRS)
    assert found is not None
    assert found.pairs == 4
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert found.correlation == pytest.approx(stats.pearsonr(ours, theirs).statistic)


def test_pairs_are_made_by_seed_not_by_order() -> None:
    shuffled = {seed: THEIRS[seed] for seed in (5, 3, 1, 4, 2)}
    assert paired(OURS, shuffled) == paired(OURS, THEIRS)
    assert paired(OURS, {seed + 10: value for seed, value in THEIRS.items()}) is None


@pytest.mark.parametrize(("ours", "theirs"), [([70.0], [60.0, 61.0]), ([70.0, 71.0], [60.0])])
def test_a_single_run_gives_no_interval(ours: list[float], theirs: list[float]) -> None:
    assert welch(ours, theirs) is None
    assert paired(dict(enumerate(ours)), dict(enumerate(theirs))) is None


def test_equal_seeds_do_not_claim_certainty() -> None:
    assert welch([70.0, 70.0], [60.0, 60.0]) is None
    assert paired({1: 70.1, 2: 71.1}, {1: 70.0, 2: 71.0}) is None  # both differences are 0.1 but for rounding
    assert welch([70.0, 70.0], [60.0, 61.0]) is not None


ROWS = [
    {1: 70.1, 2: 70.9, 3: 70.2},
    {3: 68.1, 1: 68.4, 2: 68.8},
    {1: 71.4, 2: 71.6, 3: 71.9},
    {1: 71.0, 2: 71.5, 3: 71.0},
]


def test_blocks_are_the_residuals_of_rows_and_seeds() -> None:
    """By least squares on indicators of row and seed."""
    values = np.array([row[seed] for row in ROWS for seed in (1, 2, 3)])
    design = np.hstack([np.kron(np.eye(4), np.ones((3, 1))), np.kron(np.ones((4, 1)), np.eye(3))])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    found = blocks(ROWS)
    assert found is not None
    assert (found.rows, found.n, found.degrees) == (4, 3, 6)
    deviation = float(np.sqrt(residual @ residual / 6))
    assert found.deviation == pytest.approx(deviation)
    assert found.half == pytest.approx(stats.t.ppf(0.975, 6) * deviation / 3**0.5)
    assert found.least == pytest.approx(stats.t.ppf(0.975, 6) * deviation * (2 / 3) ** 0.5)


def test_what_a_seed_changes_in_all_rows_is_left_out() -> None:
    shifted = [{seed: value + 5.0 * seed for seed, value in row.items()} for row in ROWS]
    expected, found = blocks(ROWS), blocks(shifted)
    assert expected is not None
    assert found is not None
    assert found.deviation == pytest.approx(expected.deviation)


def test_two_rows_of_blocks_are_the_paired_test() -> None:
    pairs, found = paired(ROWS[0], ROWS[1]), blocks(ROWS[:2])
    assert pairs is not None
    assert found is not None
    assert found.least == pytest.approx(pairs.interval.high - pairs.interval.difference)


def test_rows_without_the_seeds_are_left_out_of_blocks() -> None:
    expected = blocks(ROWS)
    assert blocks([{7: 60.0}, *ROWS, {1: 50.0, 2: 70.0}, {1: 60.0, 2: 61.0, 8: 62.0}]) == expected
    assert blocks([{1: 70.1, 2: 70.9, 3: 70.2}, {2: 68.1, 3: 68.4, 4: 68.8}]) == blocks(
        [{2: 70.9, 3: 70.2}, {2: 68.1, 3: 68.4}]
    )
    assert blocks([]) is None
    assert blocks(ROWS[:1]) is None
    assert blocks([{1: 70.0}, {1: 71.0}]) is None  # one seed
    assert blocks([{1: 70.0, 2: 71.0}, {3: 70.0, 4: 72.0}]) is None  # none in common
    assert blocks([{1: 70.1, 2: 71.1}, {1: 70.0, 2: 71.0}]) is None  # nothing but row and seed differs


def test_two_pairs_always_lie_on_a_line() -> None:
    assert correlation([1.0, 2.0], [5.0, 3.0]) is None
    assert correlation([1.0, 2.0, 3.0], [5.0, 3.0, 1.0]) == pytest.approx(-1.0)
    assert correlation([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) is None


def test_holm_is_the_step_down_of_bonferroni() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    # by hand, in order of size: 4 x .005, 3 x .01, 2 x .03, then .04, which may not fall below .06
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    rng = np.random.default_rng(1)
    many = rng.uniform(size=30)
    order = np.argsort(many)
    steps = np.minimum(np.maximum.accumulate(many[order] * (30 - np.arange(30))), 1.0)
    assert np.asarray(holm(list(many)))[order] == pytest.approx(steps)


def test_the_p_value_is_that_of_welchs_test() -> None:
    ours, theirs = [71.1, 70.9, 71.2, 71.0], [70.2, 70.8, 70.4]
    found = welch(ours, theirs)
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_ind(ours, theirs, equal_var=False).pvalue)
