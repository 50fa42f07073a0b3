"""The code of a row: within half a step of 65535, exact where it can be, and nothing that is not a number."""

import pytest
import torch

from distill.teachers.table import decode, encode, row_width


@pytest.mark.parametrize("classes", [1, 2, 5, 10, 100])
def test_a_logit_is_off_by_half_a_step_of_its_own_row_at_most(classes: int) -> None:
    size = torch.logspace(-6, 6, 40).unsqueeze(1)
    logits = torch.randn(40, classes, generator=torch.Generator().manual_seed(1)) * size + 3 * size
    rows = encode(logits)
    assert rows.shape == (40, row_width(classes))
    assert rows.dtype == torch.int16
    step = (logits.amax(1) - logits.amin(1)) / 65535
    error = (decode(rows, classes=classes).double() - logits.double()).abs().amax(1)
    rounding = logits.abs().amax(1) * 2.0**-22  # of float32 itself
    assert (error <= 0.5 * step + rounding).all()


def test_the_whole_range_of_int16_is_used() -> None:
    codes = encode(torch.tensor([[-1.0, 0.25, 3.0], [7.0, 7.5, 5.0]]))[:, 4:7]
    assert codes.amin(1).tolist() == [-32768, -32768]
    assert codes.amax(1).tolist() == [32767, 32767]


@pytest.mark.parametrize("value", [0.0, -4.25, 1e-40, 1e30])
def test_equal_logits_come_back_exactly(value: float) -> None:
    logits = torch.full((3, 7), value)
    assert torch.equal(decode(encode(logits), classes=7), logits)


def test_half_floats_are_stored_as_well_as_float32() -> None:
    logits = torch.randn(9, 10, generator=torch.Generator().manual_seed(2)).bfloat16()
    assert torch.equal(encode(logits), encode(logits.float()))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused_with_its_row(value: float) -> None:
    logits = torch.zeros(5, 3)
    logits[3, 1] = value
    with pytest.raises(ValueError, match="row 3 has a logit that is not finite"):
        encode(logits)
