"""Cost of the training data path against torchvision's per-image PIL pipeline, side by side in one process.

    python scripts/benchmark_data_path.py [--npz FILE] [--images N] [--steps N] [--rounds N]

The peer is what the field's training loops do: a Dataset that makes a PIL image of each array, RandomCrop,
RandomHorizontalFlip, ToTensor and Normalize, a DataLoader without workers. Both run on one thread and are
measured in process CPU time, in rounds of alternating order; the figure is the median of the rounds' ratios.
Before anything is timed, both must give equal images for equal draws. Exit code 1 if they do not, or below
--floor.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor
from torchvision.transforms import functional as F

from distill.data import ImageDataset, ImageStream, cifar100
from distill.data.dataset import assemble
from distill.data.views import split_view

BATCH_SIZE = 64
NOISY = 1.3  # largest over smallest ratio of the rounds


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR serves them: one PIL image at a time, then the transforms."""

    def __init__(self, data: ImageDataset) -> None:
        self.images, self.labels = data.train_images, data.train_labels
        self.transform = Compose(
            [RandomCrop(32, data.pad), RandomHorizontalFlip(), ToTensor(), Normalize(data.mean, data.std)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def random_images(count: int) -> ImageDataset:
    """Random bytes of CIFAR-100's shape: neither pipeline's speed depends on what is in an image."""
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 100
    return assemble(
        (images, labels),
        lambda: (images[:100], labels[:100]),
        class_names=tuple(map(str, range(100))),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        pad=4,
        flip=True,
        limit=None,
        holdout=0,
    )


def difference_from_torchvision(data: ImageDataset, stream: ImageStream, steps: int) -> tuple[int, float]:
    """Largest difference over the first batches: of uint8 pixels, and after normalisation."""
    raw, normalised = 0, 0.0
    for batch in islice(stream.epoch(0), steps):
        pixels = stream.source.pixels(batch.index, batch.view)
        for row, (index, view) in enumerate(zip(batch.index.tolist(), batch.view, strict=True)):
            dy, dx, flip = (int(part) for part in split_view(view, pad=data.pad, flip=data.flip))
            image = F.pad(Image.fromarray(data.train_images[index]), data.pad)
            image = F.crop(image, dy, dx, 32, 32)
            image = F.hflip(image) if flip else image
            raw = max(raw, int(np.abs(np.asarray(image, dtype=int) - pixels[row].numpy()).max()))
            expected = F.normalize(F.to_tensor(image), data.mean, data.std)
            normalised = max(normalised, float((expected - batch.images[row]).abs().max()))
    return raw, normalised


def cpu_seconds(batches: Iterable[object], steps: int) -> float:
    """Process CPU time of drawing `steps` batches, the start of an epoch included."""
    start = time.process_time()
    drawn = sum(1 for _ in islice(batches, steps))
    assert drawn == steps, f"the epoch has {drawn} batches only: use more --images or fewer --steps"
    return time.process_time() - start


def measure(stream: ImageStream, loader: DataLoader[object], *, steps: int, rounds: int) -> list[tuple[float, float]]:
    """(ours, peer) CPU seconds of each round; every second round runs the peer first. One round warms up."""
    seconds = []
    for number in range(rounds + 1):
        if number % 2:
            ours = cpu_seconds(stream.epoch(number), steps)
            peer = cpu_seconds(loader, steps)
        else:
            peer = cpu_seconds(loader, steps)
            ours = cpu_seconds(stream.epoch(number), steps)
        seconds.append((ours, peer))
    return seconds[1:]


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; `arguments` are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", help="measure on this CIFAR-100 instead of random bytes")
    parser.add_argument("--images", type=int, default=50_000, help="random images (default 50,000)")
    parser.add_argument("--steps", type=int, default=200, help="batches of 64 per round (default 200)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default 9)")
    parser.add_argument("--floor", type=float, default=10.0, help="least ratio that passes (default 10)")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)
    data = cifar100(npz=options.npz) if options.npz else random_images(options.images)
    stream = ImageStream(data, batch_size=BATCH_SIZE, seed=0, device="cpu")
    raw, normalised = difference_from_torchvision(data, stream, steps=min(20, options.steps))
    print(f"parity: largest difference {raw} in uint8, {normalised:.1e} after normalisation")
    if raw or normalised > 1e-6:
        print("the pipelines differ: nothing is timed")
        return 1

    loader = DataLoader(PilImages(data), batch_size=BATCH_SIZE, shuffle=True, num_workers=0)
    rounds = measure(stream, loader, steps=options.steps, rounds=options.rounds)
    images = options.steps * BATCH_SIZE
    ratios = [peer / ours for ours, peer in rounds]
    ratio = statistics.median(ratios)
    for name, seconds in (
        (f"torchvision {torchvision.__version__}, PIL per image", [peer for _, peer in rounds]),
        ("distill.data.ImageStream", [ours for ours, _ in rounds]),
    ):
        middle = statistics.median(seconds)
        print(f"{name:36s} {images / middle:10,.0f} images/s  {middle / images * 1e6:6.2f} us/image")
    print(
        f"ratio: {ratio:.1f} (median of {len(ratios)} rounds, {min(ratios):.1f} to {max(ratios):.1f}); "
        f"one thread, process CPU time, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"
    )
    if max(ratios) > NOISY * min(ratios):
        print("the rounds differ much: other work on this machine; repeat on an idle one before quoting it")
    return 0 if ratio >= options.floor else 1


if __name__ == "__main__":
    sys.exit(main())
