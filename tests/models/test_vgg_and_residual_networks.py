"""VGG and the ImageNet ResNets in their CIFAR forms against definitions written out here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill import models
from distill.models.imagenet_resnet import Bottleneck, ImageNetBasicBlock, ImageNetResNet
from distill.models.vgg import Vgg

Hand = Callable[[nn.Module], Any]


@pytest.mark.parametrize(("side", "last"), [(16, 2), (64, 4)])
def test_vgg_is_the_definition(side: int, last: int, by_hand: Hand) -> None:
    """Images of 64 pixels are pooled once more."""
    torch.manual_seed(0)
    network = Vgg(depths=(1, 2, 1, 1, 1), num_classes=5).double().train()
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    layers = by_hand(network)

    x, features, preactivations = images, [], []
    for block in range(5):
        if block and (block < 4 or side == 64):
            x = F.max_pool2d(x, 2)
        for conv in (0, 3) if block == 1 else (0,):
            before = layers.conv_bn(x, f"block{block}.{conv}", f"block{block}.{conv + 1}")
            x = before.relu()
        features.append(x)
        preactivations.append(before)

    output = network(images, taps=True)
    assert x.shape == (2, 512, last, last)
    for got, expected in zip(output.features, features, strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(output.preactivations, preactivations, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(output.logits, layers.linear(x.mean(dim=(2, 3)), "classifier"))


@pytest.mark.parametrize(("name", "depth"), [("vgg8", 8), ("vgg11", 11), ("vgg13", 13), ("vgg16", 16), ("vgg19", 19)])
def test_the_number_counts_layers_with_those_that_the_cifar_form_drops(name: str, depth: int) -> None:
    with torch.device("meta"):
        network = getattr(models, name)()
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 3 == depth  # the original ends in three linear layers
    assert all(conv.bias is not None for conv in convolutions)


@pytest.mark.parametrize("block", [ImageNetBasicBlock, Bottleneck])
def test_residual_network_is_the_definition(block: Any, by_hand: Hand) -> None:
    torch.manual_seed(0)
    network = ImageNetResNet(block=block, blocks=(1, 2, 1, 1), num_classes=5).double().train()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    layers = by_hand(network)
    convolutions, strided = (2, 1) if block is ImageNetBasicBlock else (3, 2)

    before = layers.conv_bn(images, "conv1", "bn1")
    features, preactivations = [before.relu()], [before]
    x = before.relu()
    for stage, blocks in enumerate((1, 2, 1, 1), start=1):
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            name, out = f"layer{stage}.{i}", x
            for conv in range(1, convolutions + 1):
                step = stride if conv == strided else 1
                out = layers.conv_bn(out, f"{name}.conv{conv}", f"{name}.bn{conv}", stride=step)
                out = out.relu() if conv < convolutions else out
            if layers.has(f"{name}.shortcut"):
                x = layers.conv_bn(x, f"{name}.shortcut.0", f"{name}.shortcut.1", stride=stride)
            before = x + out
            x = before.relu()
        features.append(x)
        preactivations.append(before)

    output = network(images, taps=True)
    for got, expected in zip(output.features, features, strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(output.preactivations, preactivations, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(output.logits, layers.linear(x.mean(dim=(2, 3)), "linear"))


def test_a_bottleneck_projects_in_the_first_stage_too() -> None:
    def projected(name: str) -> list[str]:
        with torch.device("meta"):
            modules = dict(getattr(models, name)().named_modules())
        return [key for key in modules if key.endswith("shortcut")]

    assert projected("resnet34") == [f"layer{i}.0.shortcut" for i in (2, 3, 4)]
    assert projected("resnet50") == [f"layer{i}.0.shortcut" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["vgg8", "resnet18"])
def test_initial_values(name: str) -> None:
    torch.manual_seed(0)
    network = getattr(models, name)(num_classes=100)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
            assert module.bias is None or not bool(module.bias.any())
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
    weight, bound = network.head.weight.detach(), network.embedding_dim**-0.5
    if name == "vgg8":
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
        assert not bool(network.head.bias.any())
    else:  # torch's default for nn.Linear
        assert 0.95 * bound < float(weight.abs().max()) <= bound
