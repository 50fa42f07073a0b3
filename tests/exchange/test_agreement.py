"""When two networks count as one."""

import math

import pytest
import torch

from distill.exchange.export import compare, logits_of

ORIGINAL = torch.tensor([[20.0, 0.0], [-1.0, 1.0], [0.0, 0.0005]])


def test_a_difference_within_the_tolerance_holds() -> None:
    found = ORIGINAL + torch.tensor([[0.0, 0.001], [0.0, 0.0], [0.0, 0.0]])
    agreement = compare(found, ORIGINAL, tolerance=1e-4)  # of 20
    assert agreement.holds
    assert agreement.tolerance == pytest.approx(0.002)
    assert (agreement.equal, agreement.count) == (3, 3)
    assert not compare(found, ORIGINAL, tolerance=1e-5).holds


def test_a_tie_may_fall_either_way_and_nothing_else() -> None:
    found = ORIGINAL.clone()
    found[2, 0] = 0.001
    agreement = compare(found, ORIGINAL, tolerance=1e-4)
    assert (agreement.holds, agreement.equal) == (True, 2)
    original = ORIGINAL.clone()
    original[2, 1] = 0.003
    found[2] = torch.tensor([0.0018, 0.0015])  # each logit is within the tolerance of 0.002, the prediction is not
    agreement = compare(found, original, tolerance=1e-4)
    assert agreement.largest < agreement.tolerance
    assert not agreement.holds


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_never_holds(number: float) -> None:
    found = ORIGINAL.clone()
    found[1, 1] = number
    assert not compare(found, ORIGINAL, tolerance=1.0).holds
    assert not compare(found, found, tolerance=1.0).holds


def test_small_logits_have_an_absolute_tolerance() -> None:
    assert compare(torch.zeros(2, 3), torch.zeros(2, 3), tolerance=1e-4).tolerance == 1e-4


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of shape"):
        compare(torch.zeros(2, 3), torch.zeros(2, 4), tolerance=1.0)


@pytest.mark.parametrize(("count", "distinct"), [(1, 1), (2, 1), (8, 2), (9, 2), (50, 3), (72, 3), (256, 4)])
def test_batches_of_several_sizes_cover_all_images_in_order(count: int, distinct: int) -> None:
    images = torch.arange(float(count)).view(count, 1, 1, 1)
    sizes: list[int] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch.flatten(1)

    assert torch.equal(logits_of(model, images).flatten(), images.flatten())
    assert len(set(sizes)) == distinct
