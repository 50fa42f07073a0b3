"""Ramps are functions of the paper's epochs: constant within one, full in the last, without a look at the device."""

import math

import pytest
import torch

from distill.losses import cosine_ramp, linear_ramp
from distill.losses.ramps import ramp_faults


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0, 7.999, 18.99, 19.0, 20.0, 500.0])
def test_values(progress):
    epoch = math.floor(progress) + 1
    at = torch.tensor(progress, dtype=torch.float64)
    assert linear_ramp(at, epochs=20).item() == pytest.approx(min(epoch / 20, 1), rel=1e-15)
    cosine = (1 - math.cos(math.pi * min(epoch / 10, 1))) / 2
    assert cosine_ramp(at, epochs=10).item() == pytest.approx(cosine, rel=1e-12)


def test_one_epoch_is_no_ramp():
    for ramp in (linear_ramp, cosine_ramp):
        assert ramp(torch.tensor(0.0), epochs=1).item() == 1


def test_shapes_alone_will_do():
    nowhere = torch.empty((), device="meta")
    assert cosine_ramp(nowhere, epochs=10).shape == linear_ramp(nowhere, epochs=20).shape == ()


def test_faults():
    assert list(ramp_faults(1)) == []
    assert list(ramp_faults(0)) == ["ramp_epochs must be >= 1, got 0: set loss.ramp_epochs to 1 for no ramp"]
