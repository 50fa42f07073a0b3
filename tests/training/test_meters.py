"""Means of an epoch, and the first number that is none."""

import math

import pytest
import torch

from distill.training.meters import Meters

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def terms(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_means_weigh_batches_by_their_images() -> None:
    meters = Meters(CPU)
    meters.update(terms(ce=1.0, kd=4.0), LOGITS, LABELS, 0)
    meters.update(terms(kd=8.0, ce=5.0), LOGITS[:1], LABELS[:1], 1)  # by name, not by position
    read = meters.read()
    assert list(read) == ["accuracy", "loss", "ce", "kd"]
    assert read["ce"] == pytest.approx((3 * 1 + 5) / 4)
    assert read["kd"] == pytest.approx((3 * 4 + 8) / 4)
    assert read["loss"] == pytest.approx(read["ce"] + read["kd"])
    assert read["accuracy"] == 75.0  # two of three, then one of one
    assert meters.count == 4
    assert meters.first_fault() is None


def test_nothing_keeps_the_graph() -> None:
    meters = Meters(CPU)
    meters.update(terms(ce=1.0), LOGITS.clone().requires_grad_(), LABELS, 0)
    assert not any(tensor.requires_grad for tensor in meters.tensors().values())


def test_sums_are_exact_over_many_batches() -> None:
    meters = Meters(CPU)
    for step in range(1000):
        meters.update(terms(ce=0.1), LOGITS[:1], LABELS[:1], step)
    assert meters.read()["ce"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)  # float32 sums lose 1e-5


def test_an_empty_epoch_reads_zero() -> None:
    assert Meters(CPU).read() == {"accuracy": 0.0, "loss": 0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_fault_stays(bad: float) -> None:
    meters = Meters(CPU)
    meters.update(terms(ce=1.0, kd=1.0), LOGITS, LABELS, 0)
    meters.update(terms(ce=1.0, kd=bad), LOGITS, LABELS, 1)
    meters.update(terms(ce=bad, kd=bad), LOGITS, LABELS, 2)
    assert meters.first_fault() == (1, "kd")


def test_of_two_terms_the_first_is_named() -> None:
    meters = Meters(CPU)
    meters.update(terms(a=1.0, b=math.nan, c=math.inf), LOGITS, LABELS, 7)
    assert meters.first_fault() == (7, "b")


def test_restored_meters_go_on() -> None:
    whole, first, second = Meters(CPU), Meters(CPU), Meters(CPU)
    for step, value in enumerate((1.0, 2.5, 0.3)):
        whole.update(terms(ce=value, kd=value / 3), LOGITS, LABELS, step)
        if step < 2:
            first.update(terms(ce=value, kd=value / 3), LOGITS, LABELS, step)
    second.restore(first.tensors(), list(first.terms), first.count)
    second.update(terms(ce=0.3, kd=0.1), LOGITS, LABELS, 2)
    assert second.read() == whole.read()
    assert second.first_fault() is None
