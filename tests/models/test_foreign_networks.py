"""Networks from outside: a module that returns logits, and one that keeps the contract without inheriting."""

import pytest
import torch
from torch import Tensor, nn

from distill.models import LogitsOnly, Output, as_network, profile


class Outside(nn.Module):
    """What a user writes who knows nothing of this package."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(images).mean(dim=(2, 3)))


class Informed(Outside):
    """What a user writes who wants the maps distilled."""

    feature_channels = (4,)
    embedding_dim = 4

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.num_classes = num_classes

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        feature = self.conv(images)
        return Output(self.fc(feature.mean(dim=(2, 3))), (feature,) if taps else ())


@pytest.mark.parametrize("taps", [False, True])
def test_a_module_that_returns_logits_is_wrapped(taps: bool) -> None:
    module = Outside(7)
    network = as_network(module, num_classes=7)
    images = torch.randn(2, 3, 16, 16)
    output = network(images, taps=taps)
    assert isinstance(network, LogitsOnly)
    assert torch.equal(output.logits, module(images))
    assert output.features == ()
    assert output.embedding is None
    assert (network.feature_channels, network.embedding_dim, network.num_classes) == ((), 0, 7)
    output.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_module_that_keeps_the_contract_is_taken_as_it_is() -> None:
    module = Informed(7)
    assert as_network(module, num_classes=7) is module
    assert profile(as_network(module, num_classes=7), image_size=16).feature_shapes == ((4, 16, 16),)


def test_both_are_counted() -> None:
    for module in (Outside(7), Informed(7)):
        measured = profile(as_network(module, num_classes=7), image_size=16)
        assert (measured.parameters, measured.macs) == (108 + 35, 108 * 256 + 28)


@pytest.mark.parametrize(
    ("module", "got"), [(Outside(5), r"shape \(2, 5\)"), (nn.Identity(), "shape"), (Informed(7), "Output")]
)
def test_what_is_no_logits_is_named(module: nn.Module, got: str) -> None:
    network = LogitsOnly(module, num_classes=7)
    with pytest.raises(ValueError, match=rf"must return logits of shape \(2, 7\), got {got}"):
        network(torch.randn(2, 3, 16, 16))
