"""What a model card says of accuracies: measured, chosen on test, claimed by a file, or only on record."""

from typing import Any

import pytest

from distill.exchange.card import scores

RESULT: dict[str, Any] = {
    "split": "test",
    "last": {"epoch": 10, "accuracy": 46.08, "correct": 4608, "count": 10000},
    "best": {"epoch": 8, "accuracy": 46.25},
    "weights_sha256": "abc",
}


def test_the_last_epoch_counts_and_the_best_was_chosen() -> None:
    rows, words = scores(RESULT)
    assert rows == {
        "accuracy, last epoch": "**46.08 %** (4608 of 10000 test images)",
        "accuracy, best epoch": "46.25 % in epoch 8, chosen on the test images",
    }
    assert "too high by construction" in words
    rows, _ = scores({**RESULT, "split": "holdout"})
    assert "held-out images" in rows["accuracy, last epoch"]
    assert rows["accuracy, best epoch"].endswith("chosen on the held-out images")


def test_imported_weights_have_one_accuracy() -> None:
    result = {**RESULT, "last": {"epoch": 240, "accuracy": 71.2}}
    rows, words = scores({**result, "imported": {"accuracy": "claimed"}})
    assert rows == {"accuracy": "**71.20 %**, not measured"}
    assert "has not been measured here" in words
    rows, words = scores({**result, "imported": {"accuracy": "measured"}})
    assert rows == {"accuracy": "**71.20 %**"}
    assert "measured with them" in words


@pytest.mark.parametrize(
    ("measured", "sha256", "told"), [(None, "other", True), (None, "abc", False), (46.1, "other", False)]
)
def test_restored_weights_that_nobody_measured(measured: float | None, sha256: str, told: bool) -> None:
    restored = {"measured": measured, "recorded": {"weights_sha256": sha256, "accuracy": 46.08}}
    _, words = scores({**RESULT, "restored": restored})
    assert ("not measured again" in words) == told
