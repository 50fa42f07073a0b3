"""Finding the feature maps of a network that does not name them: one image on the meta device tells."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Size, nn

from distill.models.hooks import channels_out, outputs_of
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

    The rule reads "the map that the next reduction sees", which is the end of a stage in every convolutional
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
