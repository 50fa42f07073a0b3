"""The CIFAR ResNets and the plain network against definitions written out here, and what all families share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill import models
from distill.models.resnet import CifarResNet

ONE_OF_EACH_FAMILY = (
    "resnet8",
    "plain_cnn",
    "wrn_16_1",
    "vgg8",
    "mobilenet_v2",
    "shufflenet_v1",
    "shufflenet_v2",
    "resnet18",
)


def test_a_shortcut_is_projected_where_the_shape_changes() -> None:
    def projected(network: nn.Module) -> list[str]:
        return [name for name, module in network.named_modules() if name.endswith("downsample")]

    assert projected(models.resnet14()) == ["layer2.0.downsample", "layer3.0.downsample"]
    assert projected(models.resnet8x4()) == [f"layer{i}.0.downsample" for i in (1, 2, 3)]


def test_the_plain_network_has_no_shortcut() -> None:
    network = models.plain_cnn().eval()
    for parameter in network.stages[2].parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 32, 32)).logits
    assert torch.equal(logits, logits[:1].expand(4, -1)), "something went round the silenced stage"


def test_forward_is_the_definition(by_hand: Callable[[nn.Module], Any]) -> None:
    """The pass written out with torch.nn.functional for one image batch, in float64."""
    torch.manual_seed(0)
    network = models.resnet8(num_classes=5).double().train()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    layers = by_hand(network)

    x = layers.conv_bn(images, "conv1", "bn1").relu()
    expected = [x]
    for layer, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)):
        residual = layers.conv_bn(x, f"{layer}.conv1", f"{layer}.bn1", stride=stride).relu()
        residual = layers.conv_bn(residual, f"{layer}.conv2", f"{layer}.bn2")
        if stride == 2:
            x = layers.conv_bn(x, f"{layer}.downsample.0", f"{layer}.downsample.1", stride=stride)
        x = (x + residual).relu()
        expected.append(x)
    pooled = F.avg_pool2d(x, 8).flatten(1)

    output = network(images, taps=True)
    for feature, value in zip(output.features, expected, strict=True):
        torch.testing.assert_close(feature, value)
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.logits, layers.linear(pooled, "fc"))


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_training_is_the_same_with_and_without_taps(name: str) -> None:
    """The in-place ReLU of the untapped pass must change neither gradients nor running statistics."""
    gradients, statistics = [], []
    for taps in (False, True):
        torch.manual_seed(0)
        network = getattr(models, name)(num_classes=5).train()
        network(torch.randn(4, 3, 24, 24), taps=taps).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        statistics.append(list(network.buffers()))
    for pair in (gradients, statistics):
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("image_size", [8, 28, 64])
@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_other_image_sizes(name: str, image_size: int) -> None:
    network = getattr(models, name)(num_classes=5).eval()
    with torch.no_grad():
        output = network(torch.randn(1, 3, image_size, image_size), taps=True)
    assert output.logits.shape == (1, 5)
    torch.testing.assert_close(output.embedding, output.final_map.mean(dim=(2, 3)))


def test_initial_values() -> None:
    torch.manual_seed(0)
    network = models.resnet32x4()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not bool(module.bias.any())
    bound = network.embedding_dim**-0.5  # torch's default for nn.Linear
    assert 0.95 * bound < float(network.fc.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_a_depth_that_is_not_6n_plus_2_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"6n \+ 2 with n >= 1, got {depth}: use 8"):
        CifarResNet(depth=depth)
