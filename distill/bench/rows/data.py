"""The data path: an epoch's shuffle, crops, flips and normalisation."""

from contextlib import ExitStack
from itertools import count

from distill.bench.lab import Lab
from distill.bench.rounds import Variant
from distill.bench.rows.group import Group, Ours


def data_path(lab: Lab, stack: ExitStack) -> Group:
    """`ImageStream` against torchvision's transforms in a DataLoader, whole epochs."""
    images, stream, epoch = len(lab.data.train_labels), lab.stream(lab.data), count(1)
    loader = lab.train_loader(lab.data)

    def ours() -> None:
        for _ in stream.epoch(next(epoch)):
            pass

    def peer() -> None:
        for _ in loader:
            pass

    return Group(
        "image",
        Variant("peer", images, peer),
        [Ours("data", "data path", Variant("ours", images, ours), ("crops",))],
    )
