"""Fused where torch can: the same numbers to rounding, the same checkpoints, and nothing the recipe did not ask for."""

import json
from functools import partial

import pytest
import torch
from torch import nn

from distill.training import Cosine, is_fused, optimizer
from distill.training.optimizer import build_optimizer, flattened, restore, set_rates

CPU = torch.device("cpu")
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=5e-2),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-2),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.05),
    "adam": partial(torch.optim.Adam, lr=0.01, amsgrad=True),
}


def layers() -> list[nn.Parameter]:
    torch.manual_seed(3)
    return [*nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last).parameters(), *nn.Linear(7, 4).parameters()]


def built_for(build, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return build_optimizer(build, parameters, CPU)[0]


def take_steps(built: torch.optim.Optimizer, parameters: list[nn.Parameter], *, start: int, end: int) -> None:
    """Gradients of their own in each step, and a rate that changes."""
    for step in range(start, end):
        torch.manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
        set_rates(built, [0.1 / (1 + step)])
        built.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fused_is_unfused_to_rounding(name: str) -> None:
    ours, theirs = layers(), layers()
    fused, plain = built_for(OPTIMIZERS[name], ours), OPTIMIZERS[name](theirs)
    assert is_fused(fused)
    assert not is_fused(plain)
    assert fused.param_groups[0]["fused"]
    for built, parameters in ((fused, ours), (plain, theirs)):
        take_steps(built, parameters, start=0, end=6)
    for mine, other, begun in zip(ours, theirs, layers(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
        assert not torch.equal(mine, begun)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_stays_at_its_place_and_is_exact(name: str) -> None:
    built = built_for(OPTIMIZERS[name], layers())
    (group,) = built.param_groups
    place = group["lr"].data_ptr()
    set_rates(built, [0.1 / 3])
    assert (group["lr"].item(), group["lr"].shape, group["lr"].data_ptr()) == (0.1 / 3, (), place)


def test_base_rates_are_the_recipes_where_the_device_holds_them_in_float32(lab, monkeypatch) -> None:
    """As on CUDA, whose fused kernels read float32: 0.05 would come back as 0.05000000074505806."""

    def in_float32(built: torch.optim.Optimizer, device: torch.device) -> None:
        for group in built.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32)

    monkeypatch.setattr(optimizer, "_put_on_device", in_float32)
    member = lab.member(recipe=lab.recipe(2, lr=0.05))
    assert member.optimizer.param_groups[0]["lr"].dtype == torch.float32
    lab.run(member)
    assert json.loads(member.recorder.lines[0])["learning_rate"] == 0.05


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", ["fused", "unfused"])
def test_a_checkpoint_of_either_form_is_taken_over(name: str, before: str) -> None:
    """From channels_last parameters by way of contiguous tensors, as a file holds them."""
    whole, begun = layers(), layers()
    straight = built_for(OPTIMIZERS[name], whole)
    take_steps(straight, whole, start=0, end=5)

    early = built_for(OPTIMIZERS[name], begun) if before == "fused" else OPTIMIZERS[name](begun)
    take_steps(early, begun, start=0, end=2)
    tensors, plain = flattened(early, [0.05])
    assert plain["param_groups"][0]["lr"] == 0.05
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    late = layers()
    with torch.no_grad():
        for parameter, kept in zip(late, begun, strict=True):
            parameter.copy_(kept)
    resumed = built_for(OPTIMIZERS[name], late)
    rate = resumed.param_groups[0]["lr"]
    restore(resumed, {key: tensor.contiguous().clone() for key, tensor in tensors.items()}, plain)
    assert resumed.param_groups[0]["lr"] is rate
    assert resumed.param_groups[0]["fused"]
    take_steps(resumed, late, start=2, end=5)
    for mine, other in zip(late, whole, strict=True):
        if before == "fused":
            assert torch.equal(mine, other)
        else:
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


class Own(torch.optim.SGD):
    """It has no fused form."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, lr=lr)


class Refuses(torch.optim.SGD):
    """It takes the word, and fails at the first step."""

    def step(self, closure=None):
        if self.param_groups[0]["fused"]:
            raise RuntimeError("no such kernel")
        return super().step(closure)


@pytest.mark.parametrize(
    "build",
    [
        partial(torch.optim.SGD, lr=0.1, fused=False),
        partial(torch.optim.SGD, lr=0.1, foreach=True),
        partial(torch.optim.Adam, lr=0.1, differentiable=True),
        partial(torch.optim.RMSprop, lr=0.1),
        partial(Own, lr=0.1),
        partial(Refuses, lr=0.1),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ],
    ids=["fused=false", "foreach", "differentiable", "no such form", "own class", "no kernel", "a function"],
)
def test_the_recipe_and_the_machine_have_the_last_word(build) -> None:
    built = built_for(build, layers())
    assert not is_fused(built)
    assert not built.param_groups[0].get("fused")
    set_rates(built, [0.3])
    assert built.param_groups[0]["lr"] == 0.3


def test_a_class_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(optimizer, "_known", {})
    monkeypatch.setattr(optimizer, "_works", lambda build, device: tried.append(build) or True)
    for lr in (0.1, 0.1, 0.2):
        built_for(partial(torch.optim.SGD, lr=lr), layers())
    assert len(tried) == 2


def test_a_member_trains_with_it_and_records_numbers(lab) -> None:
    member = lab.member(recipe=lab.recipe(3, schedule=Cosine()))
    assert is_fused(member.optimizer)
    lab.run(member, stop_requested=lab.stop_after(5))
    ((tensors, state, _),) = member.recorder.saved
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.1 * Cosine()(2, 3)
    assert not any("lr" in name for name in tensors)
