"""The numbers that decide strong views, and the square that is cut out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from distill.data import StrongView, draw_generator
from distill.data.strong_operations import OPERATIONS, amounts, cutout, squares

COUNT = 30_000
PINNED: dict[str, Any] = {
    "view": [145, 96, 51],
    "operation": [[10, 11], [1, 6], [1, 6]],
    "names": [
        "Identity",
        "AutoContrast",
        "Equalize",
        "Posterize",
        "Solarize",
        "Brightness",
        "Color",
        "Contrast",
        "Sharpness",
        "Rotate",
        "ShearX",
        "ShearY",
        "TranslateX",
        "TranslateY",
    ],
    "magnitude": [0.9316116064139003, 0.7856505720491014],
    "square": [0.5753950001709587, 0.016669564248522173, 0.8975629293280154],
}


def drawn(view: StrongView, count: int = COUNT, seed: int = 0) -> Any:
    return view.draw(count, num_views=162, generator=draw_generator(seed, "strong", 0))


def test_strong_draws_are_pinned() -> None:
    """A change here changes the numbers of every run with strong views."""
    draws = drawn(StrongView(), 3)
    assert draws.view.tolist() == PINNED["view"]
    assert draws.operation.tolist() == PINNED["operation"]
    assert [each.name for each in OPERATIONS] == PINNED["names"]
    assert draws.magnitude[0].tolist() == pytest.approx(PINNED["magnitude"], abs=1e-15)
    assert draws.square[2].tolist() == pytest.approx(PINNED["square"], abs=1e-15)


def test_every_operation_and_view_comes_up_equally_often_in_every_place() -> None:
    draws = drawn(StrongView(ops=3))
    assert draws.operation.shape == draws.magnitude.shape == (COUNT, 3)
    cases = [(draws.operation[:, k], 14, 34.5) for k in range(3)] + [(draws.view, 162, 220.3)]
    for values, kinds, limit in cases:  # 99.9 % of the chi-squared distribution with kinds - 1 degrees of freedom
        counts = values.bincount(minlength=kinds)
        assert len(counts) == kinds
        expected = COUNT / kinds
        assert float(((counts - expected) ** 2 / expected).sum()) < limit
    twice = float((draws.operation[:, 0] == draws.operation[:, 1]).double().mean())
    assert twice == pytest.approx(1 / 14, abs=5 * math.sqrt(1 / 14 / COUNT))  # with replacement


def test_magnitudes_are_uniform_in_the_operations_ranges() -> None:
    draws = drawn(StrongView(ops=1))
    operation = draws.operation[:, 0]
    found = amounts(operation, draws.magnitude[:, 0])
    for number, each in enumerate(OPERATIONS):
        rows = found[operation == number]
        width = each.high - each.low
        assert each.low <= float(rows.min()) < each.low + 0.01 * width
        assert each.high - 0.01 * width < float(rows.max()) <= each.high
        assert float(rows.mean()) == pytest.approx((each.low + each.high) / 2, abs=0.03 * width)


def test_chosen_rows_are_those_of_the_whole() -> None:
    draws, rows = drawn(StrongView(), 10), torch.tensor([7, 2, 8])
    chosen = draws.at(rows)
    for name in ("view", "operation", "magnitude", "square"):
        assert torch.equal(getattr(chosen, name), getattr(draws, name)[rows])


@pytest.mark.parametrize(("size", "largest"), [(32, 0.5), (13, 0.5), (32, 1.0)])
def test_squares_have_uniform_sides_and_centres_and_are_clipped(size: int, largest: float) -> None:
    draws = drawn(StrongView()).square
    top, bottom, left, right = squares(draws, largest=largest, size=size).long().unbind(1)
    assert int(top.min()) == int(left.min()) == 0
    assert int(bottom.max()) == int(right.max()) == size
    areas = ((bottom - top) * (right - left)).double() / size**2
    # The share of a row that a square of side s covers: s less what a uniform centre leaves outside, s^2 / 4.
    # Its square, averaged over s uniform in 0..m: m^2/3 - m^3/8 + m^4/80.
    expected = largest**2 / 3 - largest**3 / 8 + largest**4 / 80
    assert float(areas.mean()) == pytest.approx(expected, rel=0.03)
    sides = draws[:, 0] * largest * size
    whole = (top > 0) & (left > 0) & (bottom < size) & (right < size)
    assert float((bottom - top - sides)[whole].abs().max()) < 1
    assert torch.equal((bottom - top)[whole & ((right - left) == sides)], sides[whole & ((right - left) == sides)])
    centres = ((top + bottom).double() / 2)[whole & (sides < 2)] / size
    assert float(centres.mean()) == pytest.approx(0.5, abs=0.05)
    assert float((areas == 0).double().mean()) < 0.5 / size / largest * 2 + 0.01  # sides below a pixel


def test_no_cutout_cuts_nothing_and_edges_are_centres_of_pixels() -> None:
    draws = torch.tensor([[1.0, 0.5, 0.5], [0.5, 0.0, 0.99], [0.0, 0.3, 0.3]], dtype=torch.float64)
    assert squares(draws, largest=0.5, size=8).tolist() == [[2, 6, 2, 6], [0, 1, 7, 8], [2, 2, 2, 2]]
    empty = squares(drawn(StrongView()).square, largest=0, size=32)
    assert torch.equal(empty[:, 0::2], empty[:, 1::2])


def test_the_square_alone_is_filled() -> None:
    images = torch.randint(0, 124, (5, 9, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 9, 0, 9], [2, 5, 3, 9], [4, 4, 0, 9], [0, 1, 8, 9], [3, 7, 0, 2]], dtype=torch.int32)
    found = cutout(images, edges, torch.tensor([125, 223, 255], dtype=torch.uint8))
    expected = images.clone()
    for image, (top, bottom, left, right) in zip(expected, edges.tolist(), strict=True):
        image[top:bottom, left:right] = torch.tensor([125, 223, 255], dtype=torch.uint8)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ops": -1}, "ops must be >= 0, got -1"),
        ({"cutout": -0.1}, "cutout must be between 0 and 1, got -0.1"),
        ({"cutout": 1.5}, "cutout must be between 0 and 1, got 1.5"),
        ({"cutout": float("nan")}, "cutout must be between 0 and 1, got nan"),
        ({"fill": (1, 2)}, r"fill must be three whole numbers in 0..255, got \[1, 2\]"),
        ({"fill": (1, 2, 256)}, r"fill must be three whole numbers in 0..255, got \[1, 2, 256\]"),
        ({"fill": (0.5, 2, 3)}, r"fill must be three whole numbers in 0..255, got \[0.5, 2, 3\]"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StrongView(**arguments)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)ops must.*cutout must.*fill must"):
        StrongView(ops=-1, cutout=2, fill=(0, 0, 300))


def test_a_list_from_a_file_is_the_same_view() -> None:
    view = StrongView(fill=[125, 123, 114])  # type: ignore[arg-type]
    assert view == StrongView()
    assert hash(view) == hash(StrongView())
