"""Classifiers of torchvision behind the contract; their feature maps are found by one image on the meta device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor, nn

from distill.models.contract import Network, Output, check_num_classes
from distill.models.foreign import (
    channels_in,
    channels_out,
    check_name,
    embedding_of,
    inputs_of,
    outputs_of,
    sole_linear,
)
from distill.models.meta import meta_copy, meta_images


@dataclass(frozen=True)
class Tap:
    """A module whose output is a feature map; `channels_last`: it gives (B, H, W, C)."""

    module: str
    channels: int
    channels_last: bool


@dataclass(frozen=True)
class Trunk:
    """The maps on the way to the classifier, and the name of the layer that gives the logits."""

    taps: tuple[Tap, ...]
    classifier: str


def find_trunk(network: nn.Module, *, image_size: int) -> Trunk:
    """The last map of each resolution, widest first, and the last linear layer or convolution to run.

    The rule takes the map that the next reduction reads, which is the end of a stage in every convolutional
    classifier. Networks that turn the image into tokens have no taps.
    """
    clone = meta_copy(network)
    modules = {name: module for name, module in clone.named_modules() if name}
    with torch.no_grad(), outputs_of(modules) as seen:
        clone(meta_images(image_size))
    shapes = {name: output.shape for name, output in seen.items()}
    classifier = [name for name in shapes if channels_out(modules[name])][-1]
    units = set(_units(clone, "", shapes))
    before = list(shapes)[: list(shapes).index(classifier)]
    on_the_way = [name for name in before if name in units]
    if any(len(shapes[name]) == 3 for name in on_the_way):
        return Trunk((), classifier)
    last = {_side(shapes[name]): name for name in on_the_way if _side(shapes[name]) > 1}
    return Trunk(tuple(_tap(name, shapes[name]) for name in last.values()), classifier)


def _units(module: nn.Module, prefix: str, shapes: Mapping[str, Size]) -> Iterator[str]:
    """The steps of the trunk: the root's children, where a Sequential that holds several stages is opened."""
    for child_name, child in module.named_children():
        name = f"{prefix}{child_name}"
        sides = {_side(shape) for other, shape in shapes.items() if other.startswith(f"{name}.")}
        if isinstance(child, nn.ModuleList) or (isinstance(child, nn.Sequential) and len(sides) > 2):
            yield from _units(child, f"{name}.", shapes)
        else:
            yield name


def _channels_last(shape: Size) -> bool:
    return shape[1] == shape[2] != shape[3]  # the image is square


def _side(shape: Size) -> int:
    """Height of a map, 0 for what is none."""
    if len(shape) != 4:
        return 0
    return shape[1] if _channels_last(shape) else shape[2]


def _tap(name: str, shape: Size) -> Tap:
    last = _channels_last(shape)
    return Tap(name, shape[3] if last else shape[1], last)


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
        raise ValueError(f"torchvision's {name} must accept its options, got {options}: {error}") from error
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
