"""A lean forward gives the numbers of a plain one."""

import copy

import pytest
import torch
from torch import nn

from distill.models import resnet8
from distill.training import seeded
from distill.training.lean_forward import LeanForward

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Tied(nn.Module):
    """Two layers with one weight, and a BatchNorm that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.norm, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.cumulative = nn.BatchNorm2d(3, momentum=None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.cumulative(self.norm(self.second(self.norm(self.first(images)))))


def frozen() -> nn.Module:
    """A network whose stem and first norm are not trained."""
    network = resnet8()
    for parameter in list(network.parameters())[:3]:
        parameter.requires_grad_(False)
    return network


def logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    output = network(images)
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("make", [Tied, resnet8, frozen])
def test_outputs_gradients_and_buffers_are_those_of_a_plain_forward(make, precision: str) -> None:
    with seeded(1, "student"):
        plain = make()
    lean = copy.deepcopy(plain)
    surroundings = LeanForward(lean, cast=precision == "bf16")
    for _ in range(2):
        for network, context in ((plain, torch.enable_grad()), (lean, surroundings)):
            network.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), context:
                found = logits(network, IMAGES) + logits(network, IMAGES.flip(3))  # two views
            found.float().square().sum().backward()
        surroundings.collect_gradients()
        for (name, mine), theirs in zip(lean.named_parameters(), plain.parameters(), strict=True):
            assert mine.dtype == torch.float32
            assert (mine.grad is None) == (theirs.grad is None), name
            assert mine.requires_grad or mine.grad is None, name
            assert mine.grad is None or torch.equal(mine.grad, theirs.grad), name
        for network in (plain, lean):
            with torch.no_grad():
                for parameter in network.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=1e-6)
    assert all(torch.equal(mine, plain.state_dict()[name]) for name, mine in lean.state_dict().items())


def test_a_layer_that_a_loss_uses_outside_gets_both_gradients() -> None:
    layer = nn.Linear(3, 3)
    lean = LeanForward(layer, cast=True)
    with torch.autocast("cpu", torch.bfloat16), lean:
        inside = layer(torch.ones(2, 3))
    outside = layer(torch.ones(2, 3))
    (inside.float().sum() + outside.sum()).backward()
    lean.collect_gradients()
    assert torch.equal(layer.weight.grad, torch.full((3, 3), 4.0))


def test_a_failed_forward_leaves_the_network_as_it_was() -> None:
    network = Tied()
    before = dict(network.named_parameters()) | dict(network.named_buffers())
    with pytest.raises(RuntimeError), LeanForward(network, cast=True):
        network(torch.zeros(1, 2, 4, 4))
    after = dict(network.named_parameters()) | dict(network.named_buffers())
    assert all(after[name] is tensor for name, tensor in before.items())
