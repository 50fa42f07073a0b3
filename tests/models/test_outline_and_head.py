"""What objectives ask of a network before they train it: its shapes, and its last linear layer."""

import pytest
import torch
from torch import Tensor, nn

from distill import models
from distill.models import Network, Output, as_network, outline
from distill.models.meta import shapes_of


def test_outline_gives_every_output_as_meta_tensors() -> None:
    told = outline(models.wrn_16_1(num_classes=7), image_size=16, batch=5)
    assert told.logits.shape == (5, 7)
    assert [f.shape for f in told.features] == [(5, 16, 16, 16), (5, 16, 16, 16), (5, 32, 8, 8), (5, 64, 4, 4)]
    assert [p.shape for p in told.preactivations if p is not None] == [f.shape for f in told.features]
    assert told.final_map is not None
    assert told.embedding is not None
    assert (told.final_map.shape, told.embedding.shape) == ((5, 64, 4, 4), (5, 64))
    parts = (told.logits, told.final_map, told.embedding, *told.features)
    assert {part.device.type for part in parts} == {"meta"}


def test_outline_leaves_the_network_alone() -> None:
    network = models.resnet8().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outline(network, image_size=32)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in network.parameters())


def test_outline_is_that_of_evaluation() -> None:
    network = models.resnet8().train()
    modes: list[bool] = []
    network.fc.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    outline(network, image_size=32)
    assert modes == [False]


def test_a_network_for_checks_is_outlined_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    network = shapes_of(models.resnet8())
    forwards: list[int] = []
    forward = models.resnet8().__class__.forward

    def counted(self: Network, images: Tensor, *, taps: bool = False) -> Output:
        forwards.append(len(images))
        return forward(self, images, taps=taps)

    monkeypatch.setattr(type(network), "forward", counted)
    first = outline(network, image_size=32)
    assert outline(network, image_size=32) is first
    assert outline(network, image_size=32, batch=3).logits.shape == (3, 100)
    assert outline(network, image_size=16).features[-1].shape == (2, 64, 4, 4)
    assert forwards == [2, 3, 2]
    other = models.resnet8()  # one that may change is outlined anew
    assert outline(other, image_size=32) is not outline(other, image_size=32)


def test_outline_of_a_network_without_values() -> None:
    with torch.device("meta"):
        network = models.timm_network(name="test_vit", num_classes=7, img_size=32, patch_size=8)
    told = outline(network, image_size=32)
    assert told.logits.shape == (2, 7)
    assert [f.shape for f in told.features] == [(2, 64, 4, 4)] * len(network.feature_channels)


def test_a_module_that_gives_only_logits_has_neither_maps_nor_head() -> None:
    network = as_network(nn.Sequential(nn.Flatten(), nn.Linear(48, 7)), num_classes=7)
    told = outline(network, image_size=4)
    assert (told.logits.shape, told.features, told.embedding) == ((2, 7), (), None)
    assert network.head is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet8", "fc"),
        ("plain_cnn", "fc"),
        ("wrn_16_1", "fc"),
        ("vgg8", "classifier"),
        ("mobilenet_v2", "classifier.0"),
        ("shufflenet_v1", "linear"),
        ("shufflenet_v2", "linear"),
        ("resnet18", "linear"),
    ],
)
def test_the_head_is_the_networks_own_layer(name: str, layer: str) -> None:
    with torch.device("meta"):
        network = getattr(models, name)()
    assert network.head is network.get_submodule(layer)
    assert f"{layer}.weight" in network.state_dict()
    assert not any(key.startswith("head") for key in network.state_dict()), "it must not be saved twice"


@pytest.mark.parametrize(
    ("library", "name", "layer"),
    [
        ("timm", "test_resnet", "network.fc"),
        ("timm", "deit_tiny_distilled_patch16_224", None),  # two of them
        ("torchvision", "resnet18", "network.fc"),
        ("torchvision", "squeezenet1_1", None),  # a convolution
    ],
)
def test_the_head_of_a_librarys_network_is_its_only_linear_classifier(
    library: str, name: str, layer: str | None
) -> None:
    with torch.device("meta"):
        network = getattr(models, f"{library}_network")(name=name, num_classes=7)
    assert network.head is (network.get_submodule(layer) if layer else None)


class Own(Network):
    """A user's network whose last layer happens to be called head."""

    num_classes = 3

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head  # type: ignore[misc]

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        return Output(self.head(images.mean(dim=(2, 3))))


def test_a_layer_called_head_is_the_head() -> None:
    network = Own(nn.Linear(3, 3))
    assert isinstance(network.head, nn.Linear)
    assert sorted(network.state_dict()) == ["head.bias", "head.weight"]
    assert network(torch.randn(2, 3, 4, 4)).logits.shape == (2, 3)


def test_a_network_has_no_head_unless_it_says_so() -> None:
    assert Network().head is None
