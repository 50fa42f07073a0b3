"""Streams of photographs: decoded by a pool of workers, in order, as uint8; normalised on the device.

The workers are threads. Decoding, resizing, hashing and reading release Python's global lock, so threads run side by
side, write straight into a batch's (pinned) buffer, and can be used beside CUDA, which processes made by fork cannot.
On two shared cores with 224 px files, two threads cost no more processor time per image than one. Threads and processes
have not been compared on a quiet machine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.image_crops import Crops, Range, random_crops, random_order
from distill.data.image_decode import Pixels, Resample, Undecodable, decode, evaluation_view, training_view
from distill.data.image_index import ImageIndex
from distill.data.resident import Channels, HostMemory, Normalise, full_device
from distill.data.stream import WHOLE, Batch, Part, Stream, checked_batch_size, draw_generator
from distill.data.strong import Chunk, StrongView, plan, strengthened

TASK_IMAGES = 8  # handed to a worker at once: enough to make the hand-over cheap, few enough to spread a small batch
KEPT_SHARE = 0.25  # of the machine's memory that decoded evaluation images may take

_workers: list[int] = []


class UnreadableImage(RuntimeError):
    """An image that was there when the data set was indexed cannot be read any more; the text is one sentence."""


def set_workers(count: int | None) -> None:
    """Decode with so many threads in this process; None: one for each core, divided among a machine's processes."""
    _workers[:] = [] if count is None else [count]


def workers() -> int:
    """How many threads decode."""
    if _workers:
        return _workers[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))  # shared with torchrun's other processes


@lru_cache(maxsize=1)
def _pool(count: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="distill-decode")


@dataclass(frozen=True)
class Preparation:
    """How images become pixels; `mean` and `std` are per channel, for images in 0..1."""

    size: int
    resize: int
    scale: Range
    ratio: Range
    flip: bool
    resample: Resample
    mean: Channels
    std: Channels


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """N encoded images: where they lie and what is known of them without decoding.

    root      the folder
    files     (N,) names below it of the files that hold them
    members   (N,) names inside a shard, None for files of their own
    names     (N,) CLASS/NAME, the same in folders and shards
    offsets, lengths   (N,) int64, of their bytes in the file
    heights, widths    (N,) int32, in pixels
    labels    (N,) int64
    digests   (N,) sha256 of their bytes
    """

    root: Path
    files: Sequence[str]
    members: Sequence[str | None]
    names: Sequence[str]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    labels: NDArray[np.int64]
    digests: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        """Path of an image, with its name in the shard where it has one."""
        member = self.members[row]
        return f"{self.root / self.files[row]}{f' ({member})' if member else ''}"

    def at(self, rows: NDArray[np.int64]) -> ImageFiles:
        """The images at these positions."""
        columns: dict[str, Any] = {}
        for name, values in vars(self).items():
            columns[name] = values[rows] if isinstance(values, np.ndarray) else values
            if isinstance(values, tuple):
                columns[name] = tuple(values[row] for row in rows)
        return ImageFiles(**columns)

    def decoded(self, row: int) -> Pixels:
        """The pixels of an image. Raises UnreadableImage."""
        try:
            with open(self.root / self.files[row], "rb", buffering=0) as file:
                file.seek(int(self.offsets[row]))
                data = file.read(int(self.lengths[row]))
            if len(data) == self.lengths[row]:
                pixels = decode(data)
                if pixels.shape[:2] == (self.heights[row], self.widths[row]):
                    return pixels
            reason = "it has changed since the data set was read"
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
        except Undecodable as error:
            reason = str(error)
            ImageIndex(self.root).mark_damaged(self.files[row], self.members[row], reason)
        raise UnreadableImage(
            f"{self.name(row)} cannot be read ({reason}): restore it and type the command again, which resumes the "
            "run, or leave damaged images out with dataset.skip_damaged=true, which is another run"
        )


@dataclass(frozen=True)
class _Work:
    """A batch in the making: where its images stand, the buffers that workers fill, and the functions that do it."""

    positions: Sequence[int]
    buffers: tuple[Tensor, ...]
    tasks: list[Callable[[], None]]


def _buffer(memory: HostMemory, count: int, size: int, *, pinned: bool) -> Tensor:
    shape = count, size, size, 3
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pinned else memory.empty(shape, torch.uint8)


def _tasks(fill: Callable[[range], None], count: int) -> list[Callable[[], None]]:
    """`fill` for runs of the rows of a batch, each the work of one thread."""
    return [partial(fill, range(k, min(k + TASK_IMAGES, count))) for k in range(0, count, TASK_IMAGES)]


def _in_order(works: Iterator[_Work], *, batch_size: int) -> Iterator[_Work]:
    """Finished batches in their order. A bounded number is in the making, so that no worker waits for the next one."""
    count = workers()
    ahead = 1 + -(-2 * count * TASK_IMAGES // batch_size)
    pool = _pool(count, os.getpid())
    waiting: deque[tuple[_Work, list[Future[None]]]] = deque()
    try:
        for work in works:
            waiting.append((work, [pool.submit(task) for task in work.tasks]))
            if len(waiting) > ahead:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:  # also where the consumer stops early
        for _, futures in waiting:
            for future in futures:
                future.cancel()


def _finished(work: _Work, futures: Sequence[Future[None]]) -> _Work:
    for future in futures:
        future.result()
    return work


class PhotoStream(Stream):
    """Images that are decoded, cropped and mirrored as they are needed.

    Order and boxes of an epoch are drawn at once: neither the number of workers nor the batch where a resumed run
    begins changes them. With `strong` each image is decoded once and cropped a second time by draws of its own."""

    def __init__(
        self,
        files: ImageFiles,
        preparation: Preparation,
        *,
        content: Hashable,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        strong: StrongView | None = None,
        part: Part = WHOLE,
    ) -> None:
        """`content` identifies images, labels and preparation. ValueError if `batch_size` < 1."""
        super().__init__(
            files.labels,
            preparation.size,
            content=content,
            batch_size=batch_size,
            seed=seed,
            device=device,
            dtype=dtype,
            strong=strong,
            part=part,
        )
        self._files, self._preparation = files, preparation
        self._normalise = Normalise(preparation.size, mean=preparation.mean, std=preparation.std, device=self.device)
        self._labels = torch.tensor(files.labels, dtype=torch.int64, device=self.device)
        self._memory = HostMemory()

    def draws(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The epoch's order, and -1 for the views, both (N,) int64 on the device."""
        order = torch.from_numpy(random_order(self.count, seed=self.seed, epoch=epoch)).to(self.device)
        return order, torch.full_like(order, -1)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        positions = self.part.positions(self.count, batch_size=self.batch_size, start=start)
        if not len(positions):
            return
        order = random_order(self.count, seed=self.seed, epoch=epoch)
        crops = [self._crops(order, "boxes", epoch)]
        own = len(self.part.fed(self.batch_size))
        chunks: Iterator[Chunk] = iter(())
        if self.strong is not None:
            crops.append(self._crops(order, "strong boxes", epoch))
            generator = draw_generator(self.seed, "strong", epoch)
            draws = self.strong.draw(self.count, num_views=1, generator=generator).at(positions)
            chunks = iter(plan(self.strong, draws, chunk=own, size=self.image_size, device=self.device))
        for work in _in_order(self._works(order, crops, positions.tolist(), own), batch_size=own):
            rows = torch.from_numpy(order[work.positions]).to(self.device)
            weak, *more = (buffer.to(self.device, non_blocking=True) for buffer in work.buffers)
            images = self._normalise(weak, dtype=self.dtype)
            strong = self._normalise(strengthened(more[0], next(chunks)), dtype=self.dtype) if more else None
            yield Batch(images, self._labels[rows], rows, torch.full_like(rows, -1), strong)

    def _crops(self, order: NDArray[np.int64], purpose: str, epoch: int) -> Crops:
        how = self._preparation
        return random_crops(
            self._files.heights[order],
            self._files.widths[order],
            scale=how.scale,
            ratio=how.ratio,
            flip=how.flip,
            seed=self.seed,
            purpose=purpose,
            epoch=epoch,
        )

    def _works(
        self, order: NDArray[np.int64], crops: Sequence[Crops], positions: Sequence[int], own: int
    ) -> Iterator[_Work]:
        for first in range(0, len(positions), own):
            batch = positions[first : first + own]
            pinned = self.device.type == "cuda"
            buffers = tuple(_buffer(self._memory, len(batch), self.image_size, pinned=pinned) for _ in crops)
            fill = partial(self._fill, [buffer.numpy() for buffer in buffers], batch, order, crops)
            yield _Work(batch, buffers, _tasks(fill, len(batch)))

    def _fill(
        self,
        outputs: Sequence[Pixels],
        positions: Sequence[int],
        order: NDArray[np.int64],
        crops: Sequence[Crops],
        part: range,
    ) -> None:
        how = self._preparation
        for k in part:
            pixels = self._files.decoded(int(order[positions[k]]))
            for output, crop in zip(outputs, crops, strict=True):
                top, left, height, width = crop.boxes[positions[k]].tolist()
                flip = bool(crop.flips[positions[k]])
                box = (top, left, height, width)
                output[k] = training_view(pixels, box, flip, size=how.size, resample=how.resample)


class PhotoEvaluation:
    """Evaluation images in their order: the shorter side resized, the centre cut out; iterating starts over.

    They are decoded once and kept on the host where they take no more than a quarter of its memory."""

    def __init__(
        self,
        photos: KeptPixels,
        labels: NDArray[np.int64],
        *,
        content: Hashable,
        rows: Sequence[int],
        count: int,
        batch_size: int,
        device: torch.device | str,
        top5: bool,
    ) -> None:
        """`photos` and `labels` are those at the positions `rows`; `count` images are evaluated by all processes.

        `content` identifies the images, their preparation and the rows. ValueError if `batch_size` < 1."""
        self._photos, self.count, self.top5 = photos, count, top5
        self.batch_size, self.device = checked_batch_size(batch_size), full_device(device)
        self._rows = torch.as_tensor(rows, dtype=torch.int64, device=self.device)
        self._labels = torch.tensor(labels, dtype=torch.int64, device=self.device)
        self.key: Hashable = (content, self.batch_size, str(self.device))  # streams with equal keys yield equal batches
        how = photos.preparation
        self._normalise = Normalise(how.size, mean=how.mean, std=how.std, device=self.device)

    @property
    def steps(self) -> int:
        """Number of batches, the last one possibly smaller."""
        return -(-len(self._rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Batches whose `view` is -1."""
        batches = self._photos.batches(self.batch_size, pinned=self.device.type == "cuda")
        for k, pixels in enumerate(batches):
            part = slice(k * self.batch_size, k * self.batch_size + len(pixels))
            images = self._normalise(pixels.to(self.device, non_blocking=True))
            rows = self._rows[part]
            yield Batch(images, self._labels[part], rows, torch.full_like(rows, -1))


class KeptPixels:
    """Evaluation images as pixels (N, H, H, 3) uint8, decoded when they are first needed."""

    def __init__(self, files: ImageFiles, preparation: Preparation) -> None:
        self._files, self.preparation = files, preparation
        self._kept: Tensor | None = None
        self._memory = HostMemory()

    def __getitem__(self, rows: Sequence[int]) -> Pixels:
        """Those of `rows`, decoded now."""
        return np.stack([self._view(int(row)) for row in rows])

    def batches(self, batch_size: int, *, pinned: bool) -> Iterator[Tensor]:
        """All of them in order; the first complete pass keeps them where they fit."""
        if self._kept is None:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            fits = len(self._files) * 3 * self.preparation.size**2 <= KEPT_SHARE * memory
            size = self.preparation.size
            whole = torch.empty((len(self._files), size, size, 3), dtype=torch.uint8) if fits else None
            for work in _in_order(self._works(whole, batch_size, pinned=pinned), batch_size=batch_size):
                yield work.buffers[0]
            self._kept = whole
        elif len(self._kept):  # a process may have none, and an empty tensor is split into one empty part
            yield from torch.split(self._kept, batch_size)

    def _works(self, whole: Tensor | None, batch_size: int, *, pinned: bool) -> Iterator[_Work]:
        for first in range(0, len(self._files), batch_size):
            rows = range(first, min(first + batch_size, len(self._files)))
            if whole is None:
                buffer = _buffer(self._memory, len(rows), self.preparation.size, pinned=pinned)
            else:
                buffer = whole[first : rows.stop]
            yield _Work(rows, (buffer,), _tasks(partial(self._fill, buffer.numpy(), rows), len(rows)))

    def _fill(self, output: Pixels, rows: range, part: range) -> None:
        for k in part:
            output[k] = self._view(rows[k])

    def _view(self, row: int) -> Pixels:
        how = self.preparation
        pixels = self._files.decoded(row)
        return evaluation_view(pixels, size=how.size, resize=how.resize, resample=how.resample)
