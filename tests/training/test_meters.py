"""Means of an epoch, and the first number that is none."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill.training.meters import Meters, first_non_finite

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
LABELS = torch.tensor([0, 1, 1])


def add(meters: Meters, values: dict[str, torch.Tensor], images: int = 3) -> None:
    """A batch, as a member adds it."""
    hits = (LOGITS[:images].argmax(1) == LABELS[:images]).sum()
    meters.add(tuple(values), torch.stack([*values.values()]).detach(), hits, count=images)
    meters.counted(images)


def terms(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}


def test_means_weigh_batches_by_their_images() -> None:
    meters = Meters(CPU)
    add(meters, terms(ce=1.0, kd=4.0))
    add(meters, terms(kd=8.0, ce=5.0), 1)  # by name, not by position
    read = meters.read()
    assert list(read) == ["accuracy", "loss", "ce", "kd"]
    assert read["ce"] == pytest.approx((3 * 1 + 5) / 4)
    assert read["kd"] == pytest.approx((3 * 4 + 8) / 4)
    assert read["loss"] == pytest.approx(read["ce"] + read["kd"])
    assert read["accuracy"] == 75.0  # two of three, then one of one
    assert meters.count == 4
    assert meters.first_fault() is None


def test_sums_are_exact_over_many_batches() -> None:
    meters = Meters(CPU)
    for _ in range(1000):
        add(meters, terms(ce=0.1), 1)
    assert meters.read()["ce"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)  # float32 sums lose 1e-5


def test_an_empty_epoch_reads_zero() -> None:
    assert Meters(CPU).read() == {"accuracy": 0.0, "loss": 0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_fault_stays(bad: float) -> None:
    meters = Meters(CPU)
    add(meters, terms(ce=1.0, kd=1.0))
    add(meters, terms(ce=1.0, kd=bad))
    add(meters, terms(ce=bad, kd=bad))
    assert meters.first_fault() == (1, "kd")


def test_of_two_terms_the_first_is_named() -> None:
    meters = Meters(CPU)
    add(meters, terms(a=1.0, b=1.0, c=1.0))
    add(meters, terms(a=1.0, b=math.nan, c=math.inf))
    assert meters.first_fault() == (1, "b")


def test_restored_meters_go_on() -> None:
    whole, first, second = Meters(CPU), Meters(CPU), Meters(CPU)
    for step, value in enumerate((1.0, 2.5, 0.3)):
        add(whole, terms(ce=value, kd=value / 3))
        if step < 2:
            add(first, terms(ce=value, kd=value / 3))
    second.restore(first.tensors(), list(first.terms), count=first.count, step=2)
    add(second, terms(ce=0.3, kd=0.1))
    assert second.read() == whole.read()
    assert second.first_fault() is None
    add(second, terms(ce=1.0, kd=math.nan))
    assert second.first_fault() == (3, "kd")


def test_another_epoch_begins_at_the_same_addresses() -> None:
    meters, fresh = Meters(CPU), Meters(CPU)
    add(meters, terms(ce=1.0, kd=math.nan))
    places = [tensor.data_ptr() for tensor in meters.tensors().values()]
    meters.reset()
    assert meters.first_fault() is None
    for each in (meters, fresh):
        add(each, terms(ce=2.0, kd=3.0))
    assert meters.read() == fresh.read()
    assert [tensor.data_ptr() for tensor in meters.tensors().values()] == places


def state() -> dict[str, torch.Tensor]:
    """Of all kinds that a member has: of other types, on the host, whole numbers, empty, at the limits of a type."""
    return {
        "weight": torch.randn(5, 3),
        "sums": torch.zeros(2, dtype=torch.float64),
        "generator": torch.full((4,), 255, dtype=torch.uint8),
        "average": torch.full((3,), torch.finfo(torch.bfloat16).max, dtype=torch.bfloat16),
        "nothing": torch.zeros(0),
        "step": torch.tensor(3.0),
        "largest": torch.full((2,), -torch.finfo(torch.float32).max, requires_grad=True),
    }


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["weight", "sums", "average", "step", "largest"])
def test_the_tensor_that_is_not_finite_is_named(name: str, bad: float) -> None:
    tensors = state()
    assert first_non_finite(tensors, CPU) is None
    tensors[name].detach().view(-1)[-1] = bad
    assert first_non_finite(tensors, CPU) == name


def test_of_several_tensors_the_first_is_named() -> None:
    tensors = state()
    for name in ("step", "sums", "largest"):
        tensors[name].detach().fill_(math.nan)
    assert first_non_finite(tensors, CPU) == "sums"
    assert first_non_finite({"count": torch.ones(2, dtype=torch.int64)}, CPU) is None


def test_more_tensors_do_not_take_more_calls() -> None:
    class Calls(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += 1
            return func(*args, **(kwargs or {}))

    found = []
    for tensors in (2, 200):
        with Calls() as calls:
            assert first_non_finite({str(n): torch.ones(3, 3) for n in range(tensors)}, CPU) is None
        found.append(calls.count - tensors)  # which made them
    assert found[0] == found[1] < 10


@pytest.mark.parametrize("changed", [{"ce": 1.0, "kd": 1.0, "hint": math.nan}, {"ce": 1.0}, {"ce": 1.0, "sp": 1.0}])
def test_other_terms_within_an_epoch_are_refused_by_name(changed: dict[str, float]) -> None:
    meters = Meters(CPU)
    add(meters, terms(ce=1.0, kd=2.0))
    names = ", ".join(changed)
    with pytest.raises(ValueError, match=f"the terms {names} in step 1 of the epoch and ce, kd before: return every"):
        add(meters, terms(**changed))


def test_an_epoch_may_have_other_terms_than_the_one_before() -> None:
    meters = Meters(CPU)
    add(meters, terms(ce=1.0))
    meters.reset()
    add(meters, terms(ce=1.0, kd=2.0))
    assert meters.read() == {"accuracy": meters.read()["accuracy"], "loss": 3.0, "ce": 1.0, "kd": 2.0}
