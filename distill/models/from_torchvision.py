"""Classifiers of torchvision behind the contract."""

from typing import Any

from torch import Tensor, nn

from distill.models.contract import Network, Output, check_num_classes
from distill.models.hooks import channels_in, channels_out, embedding_of, inputs_of, outputs_of, sole_linear
from distill.models.names import check_name
from distill.models.trunk import Tap, Trunk, find_trunk

AUXILIARY = ("aux1", "aux2", "AuxLogits")  # the side classifiers of GoogLeNet and Inception v3


class TorchvisionNetwork(Network):
    """A torchvision classifier. Its taps are the last map of each resolution (see `find_trunk`; for a ResNet
    the stem after its ReLU and the four stages); token networks have none.

    There are no preactivations. The embedding is what the last layer reads.
    The parameters are named `network.*`.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, trunk: Trunk) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.network = network
        self.classifier = trunk.classifier
        self.taps = trunk.taps
        self.feature_channels = tuple(tap.channels for tap in trunk.taps)
        self.embedding_dim = channels_in(network.get_submodule(trunk.classifier))

    @property
    def head(self) -> nn.Linear | None:
        return sole_linear([self.network.get_submodule(self.classifier)])

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        if not taps:
            return Output(self.network(images))
        watched = {tap.module: self.network.get_submodule(tap.module) for tap in self.taps}
        layer = self.network.get_submodule(self.classifier)
        with outputs_of(watched) as seen, inputs_of([layer]) as read:
            logits = self.network(images)
        features = tuple(_as_map(seen[tap.module], tap) for tap in self.taps)
        final_map = features[-1] if features else None
        return Output(logits, features, (None,) * len(features), final_map, embedding_of(read))


def torchvision_network(
    *, num_classes: int = 100, name: str, weights: str | None = None, **options: Any
) -> TorchvisionNetwork:
    """torchvision's classifier `name`, e.g. `resnet18`.

    `weights` names one of torchvision's own sets, e.g. `IMAGENET1K_V1`, whose file is checked against its
    hash; a classifier for another number of classes then starts afresh. `options` are the network's own, e.g.
    `dropout=0.1`. ValueError for an unknown name, set of weights or option.
    """
    check_num_classes(num_classes)
    from torchvision import models

    check_name(name, models.list_models(module=models), library="torchvision")
    fresh = {"num_classes": num_classes} if weights is None else {}
    if weights is not None:
        sets = list(models.get_model_weights(name).__members__)
        if weights not in sets:
            raise ValueError(f"weights of {name} must be one of {', '.join(sets)}, got {weights!r}: name one of them")
    try:
        network: nn.Module = models.get_model(name, weights=weights, **fresh, **options)
    except TypeError as error:
        raise ValueError(f"torchvision's {name} must understand its options, got {options}: {error}") from error
    _drop_auxiliary(network)
    trunk = find_trunk(network, image_size=int(getattr(network, "image_size", 224)))
    _fit_classifier(network, trunk.classifier, num_classes=num_classes)
    return TorchvisionNetwork(network, num_classes=num_classes, trunk=trunk)


def _drop_auxiliary(network: Any) -> None:
    """Side classifiers would make the forward pass return a tuple while training."""
    for attribute in AUXILIARY:
        if hasattr(network, attribute):
            setattr(network, attribute, None)
            network.aux_logits = False


def _fit_classifier(network: nn.Module, name: str, *, num_classes: int) -> None:
    """A fresh last layer where the loaded weights are those of another number of classes."""
    old = network.get_submodule(name)
    if channels_out(old) == num_classes:
        return
    inputs = channels_in(old)  # a convolution in this place is 1x1 (SqueezeNet)
    new = nn.Linear(inputs, num_classes) if isinstance(old, nn.Linear) else nn.Conv2d(inputs, num_classes, 1)
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, new)


def _as_map(output: Tensor, tap: Tap) -> Tensor:
    return output.permute(0, 3, 1, 2) if tap.channels_last else output
