"""Calibration: hand cases, independent implementations, and folds that never see themselves."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from distill.report.sections.calibration import (
    BINS,
    calibration,
    cross_fitted,
    fitted_temperature,
    halves,
    reliability,
    scores,
    shown_temperature,
)
from distill.report.softmax import log_softmax


def test_the_calibration_error_of_a_hand_case() -> None:
    """Four images of two classes: confidences .9 .9 .6 .6, of which one of each pair is right."""
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    found = scores(np.log(shares), np.array([0, 1, 1, 0]))
    assert found["ece"] == pytest.approx(100 * (0.5 * abs(0.5 - 0.9) + 0.5 * abs(0.5 - 0.6)))
    assert found["accuracy"] == pytest.approx(50.0)
    assert found["confidence"] == pytest.approx(75.0)
    assert found["nll"] == pytest.approx(-np.mean(np.log([0.9, 0.1, 0.6, 0.4])))
    # squared distances to (1, 0): .02; 1.62; .32; .72
    assert found["brier"] == pytest.approx((0.02 + 1.62 + 0.32 + 0.72) / 4)
    assert sum(each["count"] for each in found["reliability"]) == 4


def test_bins_are_of_equal_width_and_closed_above() -> None:
    edge = 1 / BINS
    bins = reliability(np.array([edge, edge + 1e-9, 1.0, 1e-12]), np.array([True, False, True, False]))
    assert [each["count"] for each in bins] == [2, 1, *[0] * (BINS - 3), 1]
    assert (bins[0]["accuracy"], bins[1]["accuracy"], bins[2]["accuracy"]) == (50.0, 0.0, None)
    assert np.allclose(np.diff([each["low"] for each in bins]), edge)


def test_scores_are_those_of_other_implementations(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = noisy
    shares = np.exp(log_softmax(logits, 1.0))
    found = scores(np.log(shares), labels)
    assert found["nll"] == pytest.approx(log_loss(labels, shares, labels=range(shares.shape[1])), rel=1e-6)
    by_hand = sum(
        (shares[i, k] - (labels[i] == k)) ** 2 for i in range(len(labels)) for k in range(shares.shape[1])
    ) / len(labels)
    assert found["brier"] == pytest.approx(by_hand)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    error = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (confidence > low) & (confidence <= low + 1 / BINS + 1e-12)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["ece"] == pytest.approx(100 * error)


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn from their own softmax at T = 0.1: they are ten times too small."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 0.3, (4000, 6))
    shares = np.exp(log_softmax(logits, 0.1))
    labels = (shares.cumsum(axis=1) < random.random((4000, 1))).sum(axis=1)
    return logits, labels


def test_the_temperature_is_found_and_helps(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = noisy
    assert fitted_temperature(logits, labels) == pytest.approx(0.1, rel=0.05)
    both = calibration({"it": logits}, labels)["networks"]["it"]
    assert both["scaled"]["nll"] < both["raw"]["nll"] - 0.2
    assert both["scaled"]["ece"] < 3 < 20 < both["raw"]["ece"]
    assert both["scaled"]["accuracy"] == both["raw"]["accuracy"]
    assert both["scaled"]["temperatures"] == pytest.approx([0.1, 0.1], rel=0.08)


def test_no_half_helps_to_choose_its_own_temperature(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = noisy
    folds = halves(labels)
    scaled, (first, second) = cross_fitted(logits, labels)
    assert first == pytest.approx(fitted_temperature(logits[folds == 1], labels[folds == 1]))
    assert second == pytest.approx(fitted_temperature(logits[folds == 0], labels[folds == 0]))
    spoilt = logits.copy()
    spoilt[folds == 0] *= 7  # the logits of the first half
    again, (same, other) = cross_fitted(spoilt, labels)
    assert same == first
    assert other == pytest.approx(7 * second, rel=1e-2)
    assert np.array_equal(again[folds == 0], log_softmax(spoilt[folds == 0], first))
    assert not np.allclose(scaled, again)


def test_halves_share_every_class_and_depend_on_nothing_but_the_labels() -> None:
    labels = np.repeat(np.arange(5), [10, 11, 2, 1, 40])
    folds = halves(labels)
    assert set(folds.tolist()) == {0, 1}
    for each in range(5):
        inside = folds[labels == each]
        assert abs(int((inside == 0).sum()) - int((inside == 1).sum())) <= 1
    assert np.array_equal(folds, halves(labels))
    assert not np.array_equal(folds, np.arange(len(labels)) % 2)  # shuffled: the order of a test set means something


def test_a_temperature_at_the_limit_of_the_search_says_so() -> None:
    assert [shown_temperature(each) for each in (1.5, 999.0, 1e-3)] == [
        "1.5",
        "999 (limit of the search)",
        "0.001 (limit of the search)",
    ]
