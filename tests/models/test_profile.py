"""Counting: known figures, and a network that is left as it was."""

import pytest
import torch
from torch import nn

from distill import models
from distill.models.meta import meta_copy


def test_figures_of_the_literature() -> None:
    """ResNet-18 at 224 pixels: 1.814 G, as torchvision states; ViT-Ti/16: 1.25 G with attention."""
    resnet = models.profile(models.torchvision_network(name="resnet18", num_classes=1000), image_size=224)
    assert (resnet.parameters, resnet.macs) == (11_689_512, 1_814_073_344)
    vit = models.profile(models.timm_network(name="vit_tiny_patch16_224", num_classes=1000), image_size=224)
    tokens, width, depth = 197, 192, 12
    attention = depth * 2 * tokens**2 * width
    linear = depth * tokens * 12 * width**2
    assert vit.macs == 196 * 3 * 16**2 * width + linear + attention + width * 1000


def test_the_network_stays_as_it_was() -> None:
    network = models.resnet8().train()
    network.layer2.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    models.profile(network, image_size=32)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_a_shared_parameter_counts_once() -> None:
    network = models.resnet8(num_classes=64)
    plain = models.profile(network, image_size=32).parameters
    network.extra = nn.Linear(64, 64)
    network.extra.weight = network.fc.weight
    assert models.profile(network, image_size=32).parameters == plain + 64


@pytest.mark.parametrize("attribute", ["parameter", "buffer", "plain"])
def test_no_tensor_of_the_copy_is_real(attribute: str) -> None:
    module, tensor = nn.Module(), torch.ones(3)
    if attribute == "parameter":
        module.register_parameter("kept", nn.Parameter(tensor))
    elif attribute == "buffer":
        module.register_buffer("kept", tensor, persistent=False)
    else:
        module.kept = tensor
    assert meta_copy(module).kept.device.type == "meta"
    assert module.kept.device.type == "cpu"
