"""MobileNetV1 against timm's; MobileNetV2 and the ShuffleNets in their CIFAR forms against definitions written here."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill import models
from distill.models.shufflenet import shuffle

Hand = Callable[[nn.Module], Any]


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels dealt out one from each group in turn."""
    size = x.shape[1] // groups
    return x[:, [group * size + i for i in range(size) for group in range(groups)]]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_shuffle_is_the_definition(memory: torch.memory_format) -> None:
    x = torch.randn(2, 12, 3, 5).to(memory_format=memory)
    assert torch.equal(shuffle(x, groups=3), shuffled(x, 3))
    assert shuffle(x, groups=3).is_contiguous(memory_format=torch.channels_last)


def test_mobilenet_v1_is_timms_with_relu() -> None:
    torch.manual_seed(0)
    theirs: Any = timm.create_model("mobilenetv1_100", act_layer=nn.ReLU)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if trained
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = models.mobilenet_v1()
    names, state = list(ours.state_dict()), list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(names, state, strict=True)))
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        logits = theirs.eval()(images)
        assert float(logits.std()) > 1e-3
        assert torch.equal(ours.eval()(images).logits, logits)
        output = ours(images, taps=True)
    torch.testing.assert_close(output.logits, logits)
    for feature, before in zip(output.features, output.preactivations, strict=True):
        assert before is not None
        assert bool((before < 0).any())
        assert torch.equal(feature, before.relu())
    assert output.final_map is output.features[-1]
    assert [tuple(f.shape[1:]) for f in output.features] == [(128, 24, 24), (256, 12, 12), (512, 6, 6), (1024, 3, 3)]


def test_mobilenet_is_the_definition(by_hand: Hand) -> None:
    torch.manual_seed(0)
    network = models.mobilenet_v2(num_classes=5).double().train()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    layers = by_hand(network)

    x = layers.conv_bn(images, "conv1.0", "conv1.1", stride=2).relu()
    ends = []
    for group, (blocks, first_stride) in enumerate([(1, 1), (2, 1), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)]):
        for i in range(blocks):
            conv, stride = f"blocks.{group}.{i}.conv", first_stride if i == 0 else 1
            out = layers.conv_bn(x, f"{conv}.0", f"{conv}.1").relu()
            out = layers.conv_bn(out, f"{conv}.3", f"{conv}.4", stride=stride, groups=out.shape[1]).relu()
            out = layers.conv_bn(out, f"{conv}.6", f"{conv}.7")
            x = x + out if i else out  # the first of a group never has the channels of its input
        ends.append(x)
    final = layers.conv_bn(x, "conv2.0", "conv2.1").relu()
    pooled = F.avg_pool2d(final, 2).flatten(1)

    output = network(images, taps=True)
    for got, expected in zip(output.features[1:], (ends[i] for i in (1, 2, 4, 6)), strict=True):
        torch.testing.assert_close(got, expected)
        assert bool((got < 0).any()), "a bottleneck is linear"
    assert not bool((output.features[0] < 0).any())
    assert output.preactivations[0] is None
    assert all(p is f for p, f in zip(output.preactivations[1:], output.features[1:], strict=True))
    torch.testing.assert_close(output.final_map, final)
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.logits, layers.linear(pooled, "classifier.0"))


def check(network: models.Network, images: Tensor, preactivations: list[Tensor], final: Tensor, logits: Tensor) -> None:
    output = network(images, taps=True)
    for before, feature, expected in zip(output.preactivations, output.features, preactivations, strict=True):
        torch.testing.assert_close(before, expected)
        torch.testing.assert_close(feature, expected.relu())
    torch.testing.assert_close(output.final_map, final)
    torch.testing.assert_close(output.logits, logits)


def test_shufflenet_v1_is_the_definition(by_hand: Hand) -> None:
    torch.manual_seed(0)
    network = models.shufflenet_v1(num_classes=5).double().train()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    layers = by_hand(network)

    before = layers.conv_bn(images, "conv1", "bn1")
    preactivations, x = [before], before.relu()
    for stage, blocks in ((1, 4), (2, 8), (3, 4)):
        for i in range(blocks):
            block, stride = f"layer{stage}.{i}", 2 if i == 0 else 1
            groups = 1 if (stage, i) == (1, 0) else 3
            out = layers.conv_bn(x, f"{block}.conv1", f"{block}.bn1", groups=groups).relu()
            out = shuffled(out, groups)
            out = layers.conv_bn(out, f"{block}.conv2", f"{block}.bn2", stride=stride, groups=out.shape[1]).relu()
            out = layers.conv_bn(out, f"{block}.conv3", f"{block}.bn3", groups=3)
            before = x + out if i else torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)
            x = before.relu()
        preactivations.append(before)
    check(network, images, preactivations, x, layers.linear(x.mean(dim=(2, 3)), "linear"))


def test_shufflenet_v2_is_the_definition(by_hand: Hand) -> None:
    torch.manual_seed(0)
    network = models.shufflenet_v2(num_classes=5).double().train()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    layers = by_hand(network)

    before = layers.conv_bn(images, "conv1", "bn1")
    preactivations, x = [before], before.relu()
    for stage, blocks in ((1, 3), (2, 7), (3, 3)):
        block, channels = f"layer{stage}.0", x.shape[1]
        left = layers.conv_bn(x, f"{block}.conv1", f"{block}.bn1", stride=2, groups=channels)
        left = layers.conv_bn(left, f"{block}.conv2", f"{block}.bn2").relu()
        right = layers.conv_bn(x, f"{block}.conv3", f"{block}.bn3").relu()
        right = layers.conv_bn(right, f"{block}.conv4", f"{block}.bn4", stride=2, groups=right.shape[1])
        right = layers.conv_bn(right, f"{block}.conv5", f"{block}.bn5").relu()
        x = shuffled(torch.cat([left, right], dim=1), 2)
        for i in range(1, blocks + 1):
            block, half = f"layer{stage}.{i}", x.shape[1] // 2
            out = layers.conv_bn(x[:, half:], f"{block}.conv1", f"{block}.bn1").relu()
            out = layers.conv_bn(out, f"{block}.conv2", f"{block}.bn2", groups=half)
            out = layers.conv_bn(out, f"{block}.conv3", f"{block}.bn3")
            before = shuffled(torch.cat([x[:, :half], out], dim=1), 2)
            x = shuffled(torch.cat([x[:, :half], out.relu()], dim=1), 2)
        preactivations.append(before)
    final = layers.conv_bn(x, "conv2", "bn2").relu()
    check(network, images, preactivations, final, layers.linear(final.mean(dim=(2, 3)), "linear"))


def test_initial_values_of_mobilenet() -> None:
    torch.manual_seed(0)
    network = models.mobilenet_v2()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            variance = 2 / (module.out_channels * module.kernel_size[0] ** 2)  # groups do not count
            assert float(module.weight.detach().std()) == pytest.approx(variance**0.5, rel=0.1)
    assert float(network.head.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not bool(network.head.bias.any())


@pytest.mark.parametrize("name", ["mobilenet_v1", "shufflenet_v1", "shufflenet_v2"])
def test_initial_values_are_torchs(name: str) -> None:
    torch.manual_seed(0)
    network = getattr(models, name)()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1000:
            bound = module.weight[0].numel() ** -0.5
            assert 0.95 * bound < float(module.weight.detach().abs().max()) <= bound
