"""Wide ResNets: the formula of their size and cost, the definition of their pass, BatchNorm once a step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill import models
from distill.models.wrn import WideResNet


def formula(depth: int, width: int, *, classes: int) -> tuple[int, int]:
    """Parameters and MACs for 32x32 images, summed layer by layer."""
    blocks = (depth - 4) // 6
    side, channels = 32, 16
    parameters, macs = 27 * 16, 27 * 16 * side**2
    for out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        side //= stride
        for _ in range(blocks):
            convolutions = 9 * channels * out + 9 * out * out
            if channels != out:
                convolutions += channels * out
            parameters += convolutions + 2 * channels + 2 * out  # two BatchNorms
            macs += convolutions * side**2
            channels = out
    return parameters + 2 * channels + channels * classes + classes, macs + channels * classes


SIZES = [(16, 1), (16, 2), (16, 4), (28, 2), (28, 4), (40, 1), (40, 2)]


@pytest.mark.parametrize(("depth", "width"), SIZES)
def test_size_and_cost_follow_the_formula(depth: int, width: int) -> None:
    with torch.device("meta"):
        network = getattr(models, f"wrn_{depth}_{width}")(num_classes=100)
    measured = models.profile(network, image_size=32)
    assert (measured.parameters, measured.macs) == formula(depth, width, classes=100)
    widths = (16, 16 * width, 32 * width, 64 * width)
    sides = (32, 32, 16, 8)
    assert measured.feature_shapes == tuple((c, s, s) for c, s in zip(widths, sides, strict=True))


def test_the_formula_is_that_of_the_published_figures() -> None:
    assert formula(40, 2, classes=100)[0] == 2_255_156


@pytest.mark.parametrize("width", [1, 2])  # the first stage has a shortcut of its own only where it widens
def test_forward_is_the_definition(width: int, by_hand: Callable[[nn.Module], Any]) -> None:
    torch.manual_seed(0)
    network = WideResNet(depth=16, width=width, num_classes=5).double().train()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    layers = by_hand(network)

    x = layers.conv(images, "conv1")
    features, preactivations = [x], []
    for stage, stage_stride in ((1, 1), (2, 2), (3, 2)):
        for i in range(2):
            block, stride = f"block{stage}.layer.{i}", stage_stride if i == 0 else 1
            before = layers.bn(x, f"{block}.bn1")
            if i == 0:
                preactivations.append(before)
            out = layers.conv_bn(before.relu(), f"{block}.conv1", f"{block}.bn2", stride=stride).relu()
            out = layers.conv(out, f"{block}.conv2")
            if layers.has(f"{block}.convShortcut"):
                x = layers.conv(before.relu(), f"{block}.convShortcut", stride=stride)
            x = x + out
        features.append(x)
    preactivations.append(layers.bn(x, "bn1"))
    final = preactivations[-1].relu()
    pooled = F.avg_pool2d(final, 4).flatten(1)

    output = network(images, taps=True)
    for got, expected in zip(output.features, features, strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(output.preactivations, preactivations, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(output.final_map, final)
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.logits, layers.linear(pooled, "fc"))


@pytest.mark.parametrize("taps", [False, True])
def test_every_batchnorm_runs_once_in_a_step(taps: bool) -> None:
    """A second pass for the sake of the taps would also move the running statistics twice."""
    network = models.wrn_16_1(num_classes=5).train()
    calls: dict[str, int] = {}
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls.get(name, 0) + 1))
    network(torch.randn(2, 3, 16, 16), taps=taps)
    assert calls == dict.fromkeys(norms, 1)
    assert {name: int(norm.num_batches_tracked) for name, norm in norms.items()} == dict.fromkeys(norms, 1)


def test_initial_values() -> None:
    torch.manual_seed(0)
    network = models.wrn_16_4()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert not bool(network.fc.bias.any())
    bound = network.embedding_dim**-0.5  # torch's default for nn.Linear
    assert 0.95 * bound < float(network.fc.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("depth", [4, 8, 18, 20])
def test_a_depth_that_is_not_6n_plus_4_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"6n \+ 4 with n >= 1, got {depth}: use 10"):
        WideResNet(depth=depth, width=1)


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be >= 1, got 0: use 1, 2 or 4"):
        WideResNet(depth=16, width=0)
