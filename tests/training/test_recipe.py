"""Ranges of a recipe, and the epochs in which papers write their ramps."""

import pytest

from distill.training import Recipe, Steps


def make(**changes: float) -> Recipe:
    numbers = {"epochs": 10, "batch_size": 64, "reference_epochs": 240} | changes
    return Recipe(optimizer=lambda parameters: None, schedule=Steps(()), **numbers)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "reference_epochs"])
@pytest.mark.parametrize("value", [0, -3])
def test_numbers_are_at_least_one(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be >= 1, got {value}: set recipe.{name}$"):
        make(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_label_smoothing_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match=f"^label_smoothing must be >= 0 and < 1, got {value}: set recipe.label_smoo"):
        make(label_smoothing=value)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_the_decay_of_an_average_is_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match=f"^ema must be > 0 and < 1, got {value}: set recipe.ema, e.g. to 0.9999"):
        make(ema=value)


def test_all_faults_at_once() -> None:
    with pytest.raises(ValueError, match="epochs") as refused:
        make(epochs=0, batch_size=-1)
    assert len(str(refused.value).splitlines()) == 2


def test_progress_is_counted_in_reference_epochs() -> None:
    assert make().progress(0) == 0
    assert make().progress(2.5) == 60
    assert make().progress(10) == 240
    assert make(epochs=240).progress(17.25) == 17.25
