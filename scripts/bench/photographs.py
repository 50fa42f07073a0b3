"""Rows and gates on photographs: the loader and a KD step at 128 pixels, against torchvision on PIL images."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import count

import numpy as np
import torch
from torchvision.datasets.folder import default_loader
from torchvision.transforms import functional as pil

from distill.data import PhotoDataset, set_workers
from distill.data.image_crops import random_crops
from distill.data.image_decode import Resample
from scripts.bench.gates import FEW_STEPS, Gate, curve, within
from scripts.bench.lab import Lab
from scripts.bench.measure import Figure, Variant, measure
from scripts.bench.peer import photo_loader
from scripts.bench.rows import Group, Note, Ours, Row, of_steps, peer_steps

SIZE = 224  # pixels of a training crop of the loader row, as for ImageNet
BATCH = 64
LEVELS: dict[Resample, int] = {"pillow": 0, "torch": 2}  # of 255, by which pixels may differ from torchvision's
SMALLEST = 5  # classes that the peer's top-5 needs


def loader(lab: Lab, note: Note) -> list[Figure]:
    """Decoding, crop, flip, normalisation of every training photograph, each way of resizing."""
    photographs = _photographs(lab, note, "loader")
    if photographs is None:
        return []
    workers = lab.settings.workers
    numbers, images = count(1), len(photographs.train_labels)
    peer = photo_loader(photographs, batch_size=BATCH, workers=workers)

    def load_peers() -> None:
        for batch, _ in peer:
            batch.to(lab.device)

    def ours(resample: Resample) -> Variant:
        data = resampled(photographs, resample)
        stream = data.stream(batch_size=BATCH, seed=0, device=lab.device)

        def load() -> None:
            for _ in stream.epoch(next(numbers)):
                pass

        return Variant(resample, images, load)

    variants = [Variant("peer", images, load_peers), *map(ours, LEVELS)]
    with decoding(max(1, workers)), nullcontext() if workers else one_core():
        clock = wall if workers else lab.clock
        costs = measure(variants, rounds=lab.sizes.rounds, warm_up=max(1, lab.sizes.warm_up), clock=clock)
    how = f"{workers} workers, wall time" if workers else "one worker"
    return [
        Figure(
            f"loader.{resample}",
            f"photographs at {SIZE} px, {how}, resample={resample}",
            "image",
            (f"pixels {resample}",),
            tuple(costs[resample]),
            tuple(costs["peer"]),
        )
        for resample in LEVELS
    ]


def photo_step(lab: Lab, note: Note) -> list[Figure]:
    """A whole step of KD on photographs at 128 pixels, from their files to the optimizer."""
    if _photographs(lab, note, "photographs") is None:
        return []
    photos = lab.photographs
    assert photos is not None
    with ExitStack() as stack, decoding(max(1, photos.sizes.workers)):
        data, steps = photos.steps(photos.sizes.steps), photos.sizes.steps
        live = of_steps("live", [photos.member(data, photos.live())], steps, stack, lab=photos)
        label = f"KD step at {photos.plan.dataset.image_size} px, {photos.batch_size} photographs, live teacher"
        gates = ("pixels pillow", "curve on photographs")
        return Group("step", peer_steps(photos), [Ours("photographs.live", label, live, gates)]).measure(photos)


def pixels(lab: Lab, resample: Resample) -> Gate:
    """The crops of the first batch of an epoch are those of torchvision for the same draws."""
    assert lab.photographs is not None
    data = lab.photographs.plan.dataset
    assert isinstance(data, PhotoDataset)
    data, worst = resampled(data, resample), 0
    stream = data.stream(batch_size=BATCH, seed=0, device="cpu")
    batch, rows = next(iter(stream.epoch(1))), stream.draws(1)[0].numpy()
    how, sides = data.preparation, (data.train.heights[rows], data.train.widths[rows])
    crops = random_crops(*sides, scale=how.scale, ratio=how.ratio, flip=True, seed=0, purpose="boxes", epoch=1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    for k, row in enumerate(batch.index.tolist()):
        image = default_loader(str(data.train.root / data.train.files[row]))
        view = pil.resized_crop(image, *crops.boxes[k].tolist(), [SIZE, SIZE])
        expected = np.asarray(pil.hflip(view) if crops.flips[k] else view).astype(int)
        found = ((batch.images[k] * std + mean) * 255).round().permute(1, 2, 0).numpy()
        worst = max(worst, int(abs(found - expected).max()))
    what = f"pixels of {len(batch.labels)} crops (resample={resample}), largest difference from torchvision's"
    return within(f"pixels {resample}", {"levels of 255": (worst, LEVELS[resample])}, what=what)


def photo_curve(lab: Lab) -> Gate:
    """The losses of KD steps on photographs are the peer's."""
    assert lab.photographs is not None
    return curve(lab.photographs, "curve on photographs", steps=FEW_STEPS)


def resampled(data: PhotoDataset, resample: Resample) -> PhotoDataset:
    """The data set at the size of the loader row."""
    return replace(data, preparation=replace(data.preparation, size=SIZE, resample=resample))


@contextmanager
def decoding(threads: int) -> Iterator[None]:
    """Inside the block so many threads decode."""
    set_workers(threads)
    try:
        yield
    finally:
        set_workers(None)


@contextmanager
def one_core() -> Iterator[None]:
    """Inside the block all threads of this process share one core: on two they slow each other down at the memory."""
    if not hasattr(os, "sched_setaffinity"):  # not on macOS
        yield
        return
    cores = os.sched_getaffinity(0)
    _bind({max(cores)})
    try:
        yield
    finally:
        _bind(cores)


def _bind(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):  # the decoding threads may be there already
        os.sched_setaffinity(int(thread), cores)


def wall(run: Callable[[], object]) -> float:
    """Wall seconds, what counts where several workers share the work."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _photographs(lab: Lab, note: Note, row: str) -> PhotoDataset | None:
    """The data set of photographs; None, with a line, where no folder is named or its classes are too few."""
    if lab.photographs is None:
        note(f"row {row} is left out: name a folder of photographs, photographs=DIR")
        return None
    data = lab.photographs.plan.dataset
    assert isinstance(data, PhotoDataset)
    if data.num_classes < SMALLEST:
        raise ValueError(f"{os.fspath(data.train.root)} has {data.num_classes} classes, and the peer counts its top-5")
    return data


ROWS: dict[str, Row] = {"loader": loader, "photographs": photo_step}
GATES: dict[str, Callable[[Lab], Gate]] = {
    "pixels pillow": lambda lab: pixels(lab, "pillow"),
    "pixels torch": lambda lab: pixels(lab, "torch"),
    "curve on photographs": photo_curve,
}
