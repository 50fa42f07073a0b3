"""The CIFAR networks against the field's figures and against definitions written out here."""

import hashlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill import models
from distill.models.resnet import CifarResNet

# parameters, MACs of a 32x32 image with 100 classes; the field's table rounds the MACs to thousands
TABLE = {
    "resnet8": (83_892, 12_507_392),
    "resnet14": (181_108, 26_663_168),
    "resnet20": (278_324, 40_818_944),
    "resnet32": (472_756, 69_130_496),
    "resnet44": (667_188, 97_442_048),
    "resnet56": (861_620, 125_753_600),
    "resnet110": (1_736_564, 253_155_584),
    "resnet8x4": (1_233_540, 177_071_104),
    "resnet32x4": (7_433_860, 1_083_040_768),
}
NARROW = ((16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8))
FOURFOLD = ((32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8))

# sha256 over "name shape" of each state-dict entry of the published checkpoints with 100 classes
STATE_DIGESTS = {
    "resnet8": "5449ecb61c0b5a22",
    "resnet14": "e206008031b50ba3",
    "resnet20": "6f54e389c35c868d",
    "resnet32": "9a7e2a11fa94d25d",
    "resnet44": "caefd48710fea9b2",
    "resnet56": "470885c26e17ebe6",
    "resnet110": "7e524b233505177c",
    "resnet8x4": "6a4fa0192e114da1",
    "resnet32x4": "250044a29347a41f",
}


@pytest.mark.parametrize("name", TABLE)
def test_size_and_cost_are_the_published_ones(name: str) -> None:
    network = getattr(models, name)(num_classes=100)
    parameters, macs = TABLE[name]
    shapes = FOURFOLD if name.endswith("x4") else NARROW
    assert models.profile(network, image_size=32) == models.Profile(parameters, macs, shapes)


@pytest.mark.parametrize("name", TABLE)
def test_state_names_and_shapes_are_those_of_published_checkpoints(name: str) -> None:
    state = getattr(models, name)(num_classes=100).state_dict()
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == STATE_DIGESTS[name]


def test_a_shortcut_is_projected_where_the_shape_changes() -> None:
    def projected(network: nn.Module) -> list[str]:
        return [name for name, module in network.named_modules() if name.endswith("downsample")]

    assert projected(models.resnet14()) == ["layer2.0.downsample", "layer3.0.downsample"]
    assert projected(models.resnet8x4()) == [f"layer{i}.0.downsample" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("plain_cnn", 177_114, 11_539_232), ("resnet_1m", 1_354_202, 189_482_400)],
)
def test_the_small_study(name: str, parameters: int, macs: int) -> None:
    measured = models.profile(getattr(models, name)(), image_size=32)  # ten classes unless told otherwise
    assert (measured.parameters, measured.macs) == (parameters, macs)


def test_the_plain_network_has_no_shortcut() -> None:
    network = models.plain_cnn().eval()
    for parameter in network.stages[2].parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 32, 32)).logits
    assert torch.equal(logits, logits[:1].expand(4, -1)), "something went round the silenced stage"


def test_forward_is_the_definition() -> None:
    """The pass written out with torch.nn.functional for one image batch, in float64."""
    torch.manual_seed(0)
    network = models.resnet8(num_classes=5).double().train()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    state = {name: value.clone() for name, value in network.state_dict().items()}

    def conv_bn(x: torch.Tensor, conv: str, bn: str, stride: int = 1) -> torch.Tensor:
        weight = state[f"{conv}.weight"]
        out = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return F.batch_norm(out, None, None, state[f"{bn}.weight"], state[f"{bn}.bias"], training=True)

    x = conv_bn(images, "conv1", "bn1").relu()
    expected = [x]
    for layer, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)):
        residual = conv_bn(x, f"{layer}.conv1", f"{layer}.bn1", stride).relu()
        residual = conv_bn(residual, f"{layer}.conv2", f"{layer}.bn2")
        if stride == 2:
            x = conv_bn(x, f"{layer}.downsample.0", f"{layer}.downsample.1", stride)
        x = (x + residual).relu()
        expected.append(x)
    pooled = F.avg_pool2d(x, 8).flatten(1)

    output = network(images, taps=True)
    for feature, value in zip(output.features, expected, strict=True):
        torch.testing.assert_close(feature, value)
    torch.testing.assert_close(output.embedding, pooled)
    torch.testing.assert_close(output.logits, pooled @ state["fc.weight"].T + state["fc.bias"])


@pytest.mark.parametrize("name", ["resnet20", "plain_cnn"])
def test_training_is_the_same_with_and_without_taps(name: str) -> None:
    """The in-place ReLU of the untapped pass must change neither gradients nor running statistics."""
    gradients, statistics = [], []
    for taps in (False, True):
        torch.manual_seed(0)
        network = getattr(models, name)(num_classes=5).train()
        network(torch.randn(4, 3, 32, 32), taps=taps).logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
        statistics.append(list(network.buffers()))
    for pair in (gradients, statistics):
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize("image_size", [8, 28, 64])
@pytest.mark.parametrize("name", ["resnet8", "plain_cnn"])
def test_other_image_sizes(name: str, image_size: int) -> None:
    output = getattr(models, name)(num_classes=5)(torch.randn(2, 3, image_size, image_size), taps=True)
    assert output.logits.shape == (2, 5)
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


@pytest.mark.parametrize("name", ["resnet8", "plain_cnn"])
def test_no_classes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        getattr(models, name)(num_classes=0)
