"""Networks that have lost their BatchNorms: the same logits, and nothing folded that must not be."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import distill.models
from distill.models import LogitsOnly, Network, folded, timm_network, torchvision_network

PRESETS = sorted(path.stem for path in Path(__file__).resolve().parents[2].joinpath("configs/student").glob("*.yaml"))
CIFAR = [name for name in PRESETS if hasattr(distill.models, name)]


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def trained(network: Any) -> Any:
    """As after a training: statistics, scales and shifts of its own in every BatchNorm."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            if module.running_mean is not None:
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return network


def images(size: int, *, count: int = 4) -> Tensor:
    batch = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))
    return batch.contiguous(memory_format=torch.channels_last)


def logits(network: nn.Module, batch: Tensor, *, bf16: bool = False) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        return network(batch).logits.float()


def assert_same_logits(network: nn.Module, size: int) -> nn.Module:
    """The folded network, once it has shown its logits."""
    made, batch = folded(network, image_size=size), images(size)
    network = copy.deepcopy(network).eval()
    expected = logits(network, batch)
    assert (logits(made, batch) - expected).abs().max() <= 1e-5 * expected.abs().max()
    return made


def left_in(name: str) -> int:
    """BatchNorms that no convolution can take: those of a Wide ResNet that read a sum."""
    found = re.fullmatch(r"wrn_(\d+)_(\d+)", name)
    if found is None:
        return 0
    blocks = (int(found[1]) - 4) // 2
    # the stem's map is read twice where the first block has no convolution on its shortcut
    return blocks + (found[2] == "1")


@pytest.mark.parametrize("name", CIFAR)
def test_every_cifar_network(name: str) -> None:
    size = 32 if name == "mobilenet_v2" else 16
    torch.manual_seed(0)
    network = trained(getattr(distill.models, name)(num_classes=7))
    made = assert_same_logits(network, size)
    assert norms(network) > left_in(name)
    assert norms(made) == left_in(name)


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8"])
def test_in_bf16_it_is_as_near_to_fp32_as_the_network(name: str) -> None:
    """Each rounds as it goes, so the two differ by what either differs from the exact logits."""
    torch.manual_seed(0)
    network, batch = trained(getattr(distill.models, name)(num_classes=7)).eval(), images(16)
    expected, half = logits(network, batch), logits(network, batch, bf16=True)
    found = logits(folded(network, image_size=16), batch, bf16=True)
    assert (found - expected).norm() <= max(1.5 * (half - expected).norm(), 1e-2 * expected.norm())
    assert (found - half).norm() <= 2e-2 * expected.norm()


LIBRARIES: dict[str, tuple[Callable[[], Network], int, int]] = {
    "timm's own BatchNorm": (lambda: timm_network(name="mobilenetv3_small_050", num_classes=7), 64, 0),
    "timm resnet": (lambda: timm_network(name="test_resnet", num_classes=7), 64, 0),
    "timm branches": (lambda: timm_network(name="repvgg_a0", num_classes=7), 32, 17),  # some on the identity
    "torchvision": (lambda: torchvision_network(name="mobilenet_v3_small", num_classes=7), 64, 0),
}


@pytest.mark.parametrize("case", LIBRARIES)
def test_networks_of_libraries(case: str) -> None:
    build, size, left = LIBRARIES[case]
    torch.manual_seed(0)
    made = assert_same_logits(trained(build()), size)
    assert norms(made) == left


def test_a_network_without_batchnorm_is_returned() -> None:
    network = timm_network(name="test_vit", num_classes=7, img_size=32, patch_size=8)
    assert folded(network, image_size=32) is network


def test_the_original_stays_as_it_is() -> None:
    network = trained(distill.models.resnet8(num_classes=7)).train()
    before = copy.deepcopy(network.state_dict())
    made = folded(network, image_size=16)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module.training for module in made.modules())
    assert not any(parameter.requires_grad for parameter in made.parameters())
    for parameter in made.parameters():
        parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_type_and_memory_format_of_the_weights_are_kept() -> None:
    network = trained(distill.models.resnet8(num_classes=7)).to(memory_format=torch.channels_last)
    for module in folded(network, image_size=16).modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
            assert module.weight.dtype == torch.float32


class Two(nn.Module):
    """A pair that can be folded, then one that `forward` treats as a subclass says."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.first_bn = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first_bn(self.first(x)))).mean(dim=(2, 3))

    def second(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class ReadTwice(Two):
    def second(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return F.relu(self.bn(y)) + y


class ReadBeforehand(Two):
    def second(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.sigmoid(y) * self.bn(y)


class Overwritten(Two):
    def second(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y += x
        return self.bn(y)


class OverwrittenAfterwards(Two):
    """Without the BatchNorm its input and its output are one tensor."""

    def second(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return F.relu(self.bn(y), inplace=True) - y


class ConvolvedTwice(Two):
    def second(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(self.conv(x)))) + self.conv(x)


class NormalisedTwice(Two):
    def second(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.bn(self.conv(x))))


class TwoReaders(Two):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(6)

    def second(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) - F.relu(self.other(y))


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.std(dim=(1, 2, 3), keepdim=True), self.bias, padding=1)


class OtherConvolution(Two):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(6, 6, 3)


class Parametrized(Two):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 3, padding=1))


class Hooked(Two):
    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda module, inputs, output: F.relu(output))


class OfTheBatch(Two):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(6, track_running_stats=False)


class OtherNorm(Two):
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    def __init__(self) -> None:
        super().__init__()
        self.bn = self.Doubled(6)


KEPT = [
    ReadTwice,
    ReadBeforehand,
    Overwritten,
    OverwrittenAfterwards,
    ConvolvedTwice,
    NormalisedTwice,
    TwoReaders,
    OtherConvolution,
    Parametrized,
    Hooked,
    OfTheBatch,
    OtherNorm,
]


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_what_cannot_be_folded_is_kept_and_the_rest_folded(kind: type[Two]) -> None:
    torch.manual_seed(0)
    network = LogitsOnly(trained(kind()), num_classes=6)
    made: Any = assert_same_logits(network, 8)
    assert isinstance(made.network.first_bn, nn.Identity)
    assert isinstance(made.network.bn, nn.BatchNorm2d)


def test_a_layer_of_two_names_is_folded_under_both() -> None:
    torch.manual_seed(0)
    module = trained(Two())
    module.alias, module.other_alias = module.conv, module.bn
    made: Any = assert_same_logits(LogitsOnly(module, num_classes=6), 8)
    assert norms(made) == 0
    assert made.network.alias is made.network.conv


def test_a_batchnorm_without_scale_and_shift_is_folded() -> None:
    torch.manual_seed(0)
    module = Two()
    module.bn = nn.BatchNorm2d(6, affine=False)
    assert norms(assert_same_logits(LogitsOnly(trained(module), num_classes=6), 8)) == 0


def test_a_pair_is_judged_by_what_it_might_do_not_by_what_it_happens_to() -> None:
    """A BatchNorm that changes nothing today would pass any comparison of logits."""
    module = ReadTwice()
    module.bn.eps = 0.0
    made: Any = folded(LogitsOnly(module, num_classes=6), image_size=8)
    assert isinstance(made.network.bn, nn.BatchNorm2d)


class SingleOnly(Two):
    def second(self, x: Tensor) -> Tensor:
        return F.conv2d(super().second(x), torch.ones(6, 6, 1, 1))  # of no other type than float32


def test_a_network_that_cannot_be_tried_is_returned() -> None:
    network = LogitsOnly(SingleOnly(), num_classes=6)
    assert network(images(8, count=2)).logits.shape == (2, 6)
    assert folded(network, image_size=8) is network
