"""Streams of batches: the augmented training set epoch by epoch, and the evaluation set as it is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.resident import DeviceImages, full_device
from distill.data.strong import StrongView, strong_images

if TYPE_CHECKING:
    from distill.data.dataset import ImageDataset


@dataclass(frozen=True)
class Batch:
    """One batch on the stream's device (B images, H = W = the data set's image size).

    images  (B, 3, H, W) in channels_last memory, normalised; float32, or the stream's `dtype`
    labels  (B,) int64
    index   (B,) int64, position in the training set used (after limit and hold-out);
            for an evaluation stream the position in the evaluation set
    view    (B,) int64, number of the augmented view, ((dy * (2p+1) + dx) * F + flip) with F = 2
            where images are flipped and 1 where not; -1 where views are not enumerable, and in evaluation
    strong  (B, 3, H, W) second, strongly augmented images for two-view methods, otherwise None
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    view: Tensor
    strong: Tensor | None = None


def stable_seed(text: str, *, byteorder: Literal["big", "little"]) -> int:
    """A 63-bit seed from the sha256 of `text`, the same on every platform.

    `byteorder` differs between the two callers (streams: big, training: little); finished runs depend on both."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], byteorder) >> 1


def draw_generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """A CPU generator for one epoch's draws of one purpose, seeded by a stable hash: no state to save."""
    return torch.Generator().manual_seed(stable_seed(f"{seed}/{purpose}/{epoch}", byteorder="big"))


@dataclass(frozen=True)
class Part:
    """The rows of every batch that process `rank` of `size` takes; by default all of them.

    A batch is cut into runs of adjacent rows whose lengths differ by one at most.
    """

    rank: int = 0
    size: int = 1

    def rows(self, count: int) -> range:
        """Its rows of a batch of `count`; none where there are fewer rows than processes."""
        each, more = divmod(count, self.size)
        first = self.rank * each + min(self.rank, more)
        return range(first, first + each + (self.rank < more))

    def fed(self, count: int) -> range:
        """The rows to compute on: its own, or where it has none the first, which stands in and counts for nothing."""
        return self.rows(count) or range(1)

    def positions(self, count: int, *, batch_size: int, start: int = 0) -> Tensor:
        """Where in an epoch of `count` images the rows to compute on lie, from batch `start` on: int64 on the CPU."""
        steps = range(start * batch_size, count, batch_size)
        own = ((first, self.fed(min(batch_size, count - first))) for first in steps)
        return torch.tensor([first + row for first, rows in own for row in rows], dtype=torch.int64)


WHOLE = Part()


class Stream(ABC):
    """The training images of a data set, shuffled and augmented anew in every epoch.

    The draws of an epoch depend on the seed and the epoch alone and are made on the CPU, so they are the same for
    every device.

    batch_size    of all batches but an epoch's last one, over all processes; `part` are the rows yielded here
    dtype         of the images: bfloat16 where every network that reads them would cast them to it
    strong        the second view of each image, None where there is none; its draws are separate: everything else in
                  the batches is the same without it
    source        the images on the device where they are resident, None where they are decoded as they are needed
    key           streams with equal keys yield equal batches
    labels        (N,) of the training images, on the host
    image_size    H = W in pixels
    count         N, the images of an epoch
    """

    source: DeviceImages | None = None

    def __init__(
        self,
        labels: NDArray[np.int64],
        image_size: int,
        *,
        content: Hashable,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype,
        strong: StrongView | None,
        part: Part,
    ) -> None:
        """`content` identifies the images and their preparation. ValueError if `batch_size` < 1."""
        self.labels, self.image_size, self.count = labels, image_size, len(labels)
        self.batch_size, self.seed = checked_batch_size(batch_size), seed
        self.device, self.dtype, self.strong, self.part = full_device(device), dtype, strong, part
        self.key: Hashable = (content, batch_size, seed, str(self.device), dtype, strong, part)

    @property
    def steps(self) -> int:
        """Batches per epoch; the last, partial one counts (50,000 images / 64: 782)."""
        return -(-self.count // self.batch_size)

    @abstractmethod
    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The epoch's order and views, both (N,) int64 on the device: step k takes the k-th slice of each."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; ValueError unless 0 <= start <= steps."""
        if not 0 <= start <= self.steps:
            raise ValueError(f"start must be between 0 and the epoch's {self.steps} steps, got {start}")
        return self._batches(epoch, start)

    @abstractmethod
    def _batches(self, epoch: int, start: int) -> Iterator[Batch]: ...


class ImageStream(Stream):
    """Images that are resident on the device.

    After the draws are moved to the device, once an epoch, no step waits for the host."""

    source: DeviceImages

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        strong: StrongView | None = None,
        part: Part = WHOLE,
    ) -> None:
        """ValueError if `batch_size` < 1."""
        super().__init__(
            dataset.train_labels,
            dataset.image_size,
            content=(dataset.digest["train"], dataset.holdout, dataset.mean, dataset.std, dataset.pad, dataset.flip),
            batch_size=batch_size,
            seed=seed,
            device=device,
            dtype=dtype,
            strong=strong,
            part=part,
        )
        self.dataset = dataset
        self.source = dataset.on(self.device)

    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        generator = draw_generator(self.seed, "stream", epoch)
        index = torch.randperm(self.count, generator=generator)
        view = torch.randint(self.dataset.num_views, (self.count,), generator=generator)
        return index.to(self.device), view.to(self.device)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        positions = self.part.positions(self.count, batch_size=self.batch_size, start=start)
        if not len(positions):  # splitting nothing yields one empty slice
            return
        own = len(self.part.fed(self.batch_size))
        index, view = (draw.index_select(0, positions.to(self.device)) for draw in self.draws(epoch))
        strong = self._strong_images(epoch, positions, index)
        slices = (torch.split(draw, own) for draw in (index, view))
        for rows, views in zip(*slices, strict=True):
            labels = self.source.labels.index_select(0, rows)
            images = self.source.images(rows, views, dtype=self.dtype)
            yield Batch(images, labels, rows, views, next(strong))

    def _strong_images(self, epoch: int, positions: Tensor, index: Tensor) -> Iterator[Tensor | None]:
        """Those of the images `index`, which lie at `positions` in the epoch, batch by batch."""
        if self.strong is None:
            return repeat(None)
        # One row per position in the epoch, drawn at once, so a row depends neither on the batch size nor on where a
        # run resumes.
        generator = draw_generator(self.seed, "strong", epoch)
        draws = self.strong.draw(self.count, num_views=self.dataset.num_views, generator=generator).at(positions)
        own = len(self.part.fed(self.batch_size))
        return strong_images(self.source, index, view=self.strong, draws=draws, batch_size=own, dtype=self.dtype)


class EvaluationStream:
    """The evaluation images in their order, unaugmented; iterating it again starts over.

    `part` is the share of the images that is yielded here, without padding.
    """

    top5 = False

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int,
        device: torch.device | str,
        rows: Sequence[int] | None = None,
        part: Part = WHOLE,
    ) -> None:
        """`rows` are the positions of the images, by default all. ValueError if `batch_size` < 1."""
        self.dataset = dataset
        self.batch_size = checked_batch_size(batch_size)
        self.device = full_device(device)
        self.source = dataset.evaluation_on(self.device)
        chosen = range(len(dataset.evaluation_labels)) if rows is None else rows
        content = (dataset.evaluation_content, dataset.mean, dataset.std, None if rows is None else tuple(rows))
        self.key: Hashable = (*content, self.batch_size, str(self.device), part)
        self.count = len(chosen)
        self.rows = [chosen[row] for row in part.rows(self.count)]

    @property
    def steps(self) -> int:
        """Number of batches, the last one possibly smaller."""
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Batches whose `view` is -1."""
        if not self.rows:  # splitting nothing yields one empty slice
            return
        index = torch.tensor(self.rows, dtype=torch.int64, device=self.device)
        for rows in torch.split(index, self.batch_size):
            images = self.source.images(rows, torch.zeros_like(rows))
            yield Batch(images, self.source.labels.index_select(0, rows), rows, torch.full_like(rows, -1))


def checked_batch_size(batch_size: int) -> int:
    """The batch size; ValueError unless it is at least 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}: set recipe.batch_size")
    return batch_size
