"""Pairs of tiny networks with all outputs of the contract, from the most different to the most alike."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill.models import Network, Output, outline
from distill.training import seeded

CLASSES = 5
IMAGE_SIZE = 16


class Staged(Network):
    """A convolution, BatchNorm and ReLU per tap, global average pooling, one linear layer."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], *, classes: int = CLASSES) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = classes, tuple(widths), widths[-1]
        self.strides = tuple(strides)
        ends = zip([3, *widths], widths, strides, strict=False)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, stride=s, padding=1), nn.BatchNorm2d(o)) for i, o, s in ends
        )
        self.fc = nn.Linear(widths[-1], classes)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        before, after = [], [images]
        for stage in self.stages:
            before.append(stage(after[-1]))
            after.append(torch.relu(before[-1]))
        embedding = after[-1].mean((2, 3))
        logits = self.fc(embedding)
        if not taps:
            return Output(logits)
        return Output(logits, tuple(after[1:]), tuple(before), after[-1], embedding)


NARROW, WIDE = (4, 6, 8, 10), (6, 8, 10, 12)
PAIRS: dict[str, Callable[[], tuple[Network, Network]]] = {
    "other channels and sizes": lambda: (Staged(NARROW, (1, 2, 2, 2)), Staged(WIDE, (1, 1, 2, 2))),
    "other channels": lambda: (Staged(NARROW, (1, 1, 2, 2)), Staged(WIDE, (1, 1, 2, 2))),
    "equal shapes": lambda: (Staged(NARROW, (1, 1, 2, 2)), Staged(NARROW, (1, 1, 2, 2))),
}


_OUTLINES: dict[tuple[object, ...], Output] = {}


def outline_of(network: Network, *, image_size: int, batch: int = 2) -> Output:
    """As `distill.models.outline`, drawn once for all networks of this file that are made alike."""
    if type(network) is not Staged:
        return outline(network, image_size=image_size, batch=batch)
    place = network.fc.weight.device
    key = (network.feature_channels, network.strides, network.num_classes, place, image_size, batch)
    if key not in _OUTLINES:
        _OUTLINES[key] = outline(network, image_size=image_size, batch=batch)
    return _OUTLINES[key]


def networks(pair: str) -> tuple[Network, Network]:
    """Student and teacher, always the same; the teacher is the more certain of its classes."""
    with seeded(1, "networks"):
        student, teacher = PAIRS[pair]()
        with torch.no_grad():
            assert teacher.head is not None
            teacher.head.weight.mul_(4)
    return student, teacher
