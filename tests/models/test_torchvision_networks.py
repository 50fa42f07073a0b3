"""torchvision's classifiers behind the contract: what they share is in test_network_contract.py."""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as library

from distill.models import torchvision_network
from distill.models.from_torchvision import Tap, TorchvisionNetwork, Trunk, find_trunk


def images(size: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, size, size)


def test_it_is_torchvisions_network_with_the_maps_of_its_stages() -> None:
    network = torchvision_network(name="resnet18", num_classes=7).eval()
    plain: Any = library.resnet18(num_classes=7).eval()
    plain.load_state_dict(network.network.state_dict())
    batch = images(64)
    with torch.no_grad():
        output = network(batch, taps=True)
        assert torch.equal(output.logits, plain(batch))
        maps = [plain.relu(plain.bn1(plain.conv1(batch)))]
        x = plain.maxpool(maps[0])
        for layer in (plain.layer1, plain.layer2, plain.layer3, plain.layer4):
            x = layer(x)
            maps.append(x)
        pooled = x.mean(dim=(2, 3))
    assert all(torch.equal(a, b) for a, b in zip(output.features, maps, strict=True))
    torch.testing.assert_close(output.embedding, pooled)


@pytest.mark.parametrize(
    ("name", "channels", "dimension"),
    [
        ("squeezenet1_1", (64, 128, 256, 512), 512),  # its classifier is a convolution
        ("googlenet", (64, 192, 480, 832, 1024), 1024),  # branches; side classifiers while training
        ("shufflenet_v2_x0_5", (24, 24, 48, 96, 1024), 1024),  # a reduction without a stage
    ],
)
def test_stages_are_found(name: str, channels: tuple[int, ...], dimension: int) -> None:
    options = {"init_weights": False} if name == "googlenet" else {}
    network = torchvision_network(name=name, num_classes=7, **options).train()
    output = network(images(64), taps=True)
    assert output.logits.shape == (2, 7)
    assert tuple(f.shape[1] for f in output.features) == network.feature_channels == channels
    assert output.embedding is not None
    assert output.embedding.shape == (2, network.embedding_dim) == (2, dimension)


def test_maps_of_a_channels_last_network_are_turned() -> None:
    swin = library.SwinTransformer([4, 4], 8, [1, 1, 1], [2, 2, 2], [2, 2], num_classes=7)
    trunk = find_trunk(swin, image_size=64)
    taps = (Tap("features.1", 8, True), Tap("features.3", 16, True), Tap("permute", 32, False))
    assert trunk == Trunk(taps, "head")
    network = TorchvisionNetwork(swin, num_classes=7, trunk=trunk)
    features = network(images(64), taps=True).features
    assert [f.shape[1:] for f in features] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]


def test_a_token_network_has_no_maps() -> None:
    vit = library.VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=7)
    trunk = find_trunk(vit, image_size=32)
    assert trunk.taps == ()
    assert trunk.classifier == "heads.head"


def test_finding_the_stages_leaves_the_network_alone() -> None:
    network = library.resnet18(num_classes=7).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    find_trunk(network, image_size=64)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_last_map_of_each_resolution_is_the_tap() -> None:
    stage = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 8, 1), nn.ReLU())
    layers = [
        ("stem", nn.Conv2d(3, 4, 1)),
        ("relu", nn.ReLU()),
        ("stage", stage),
        ("pool", nn.AdaptiveAvgPool2d(1)),
    ]
    network = nn.Sequential(OrderedDict([*layers, ("flatten", nn.Flatten()), ("head", nn.Linear(8, 5))]))
    trunk = find_trunk(network, image_size=16)
    assert trunk.taps == (Tap("relu", 4, False), Tap("stage", 8, False))
    assert trunk.classifier == "head"


@pytest.mark.parametrize("num_classes", [7, 1000])
def test_weights_come_from_torchvisions_own_loader(monkeypatch: pytest.MonkeyPatch, num_classes: int) -> None:
    stored = library.shufflenet_v2_x0_5(num_classes=1000).state_dict()
    checked: list[Any] = []

    def offline(url: str, *, check_hash: bool = False, **_: Any) -> Any:
        checked.append((url, check_hash))
        return stored

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    network = torchvision_network(name="shufflenet_v2_x0_5", num_classes=num_classes, weights="IMAGENET1K_V1")
    state = network.network.state_dict()
    assert checked == [(library.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.url, True)]
    assert torch.equal(state["conv1.0.weight"], stored["conv1.0.weight"])
    assert state["fc.weight"].shape == (num_classes, 1024)
    assert torch.equal(state["fc.weight"], stored["fc.weight"]) == (num_classes == 1000)
    assert network(images(64)).logits.shape == (2, num_classes)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    expected = r"name must be a torchvision network, got 'mobilenet_v4': did you mean .*mobilenet_v"
    with pytest.raises(ValueError, match=expected):
        torchvision_network(name="mobilenet_v4", num_classes=7)


def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(ValueError, match="name must be a torchvision network"):
        torchvision_network(name="fasterrcnn_resnet50_fpn", num_classes=7)


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of IMAGENET1K_V1, DEFAULT, got 'V1'"):
        torchvision_network(name="resnet18", num_classes=7, weights="V1")


def test_an_option_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resnet18 must accept its options, got \{'dropout': 0.1\}: .*dropout"):
        torchvision_network(name="resnet18", num_classes=7, dropout=0.1)
