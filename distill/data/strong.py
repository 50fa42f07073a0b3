"""The strong view of a training image: RandAugment and Cutout after a crop and flip of its own.

Sources: RandAugment (Cubuk, Zoph, Shlens and Le, CVPR Workshops 2020, arXiv 1909.13719) for the operations and
how they are combined; FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685, appendix) for their ranges and
for magnitudes drawn anew for every image; Cutout (DeVries and Taylor, 2017, arXiv 1708.04552) for the square.
With `StrongView()` it is the strong view of MLKD (Jin, Wang and Lin, CVPR 2023).

Everything works on whole groups of images, (B, H, H, 3) uint8, on their device. The operations are those
of Pillow, on which the papers' pipelines rely, and give its pixels for equal parameters:
`ImageOps` for the histogram and threshold operations, `ImageEnhance` for the enhancements, `Image.rotate` and
`Image.transform` with nearest resampling for the geometric ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.resident import DeviceImages
from distill.data.strong_operations import OPERATIONS, PIXEL_OPERATIONS, affine, amounts, coefficients, cutout, squares


@dataclass(frozen=True)
class StrongView:
    """Random crop and flip, `ops` operations of RandAugment, Cutout: in this order, on uint8 pixels.

    ops     how many operations follow each other (RandAugment's N); each is drawn independently and uniformly
            from the 14, so one may come up twice, and each draws a magnitude of its own, uniform in its range
            (RandAugment's global M is not used: FixMatch, arXiv 2001.07685)
    cutout  largest side of the square, as a share of the image's: the side is uniform in 0..cutout
    fill    the square's RGB in 0..255; the default is ImageNet's mean colour, as in MLKD

    The defaults are MLKD's. ValueError unless ops >= 0, 0 <= cutout <= 1 and fill is three numbers in 0..255.
    """

    ops: int = 2
    cutout: float = 0.5
    fill: tuple[int, int, int] = (125, 123, 114)

    def __post_init__(self) -> None:
        fill = tuple(self.fill)  # a list from a configuration file: keys of streams must be hashable
        faults = []
        if self.ops < 0:
            faults.append(f"ops must be >= 0, got {self.ops}: set it to 0 for no operation before the cutout")
        if not 0 <= self.cutout <= 1:
            faults.append(f"cutout must be between 0 and 1, got {self.cutout}: set a share of the image's width")
        if len(fill) != 3 or not all(0 <= level <= 255 and level == int(level) for level in fill):
            faults.append(f"fill must be three whole numbers in 0..255, got {list(fill)}: set red, green and blue")
        if faults:
            raise ValueError("\n".join(faults))
        object.__setattr__(self, "fill", tuple(int(level) for level in fill))

    def draw(self, count: int, *, num_views: int, generator: torch.Generator) -> StrongDraws:
        """The numbers for `count` images, on the CPU; `num_views` crops and flips to choose from."""
        shape = (count, self.ops)
        return StrongDraws(
            view=torch.randint(num_views, (count,), generator=generator),
            operation=torch.randint(len(OPERATIONS), shape, generator=generator),
            magnitude=torch.rand(shape, generator=generator, dtype=torch.float64),
            square=torch.rand((count, 3), generator=generator, dtype=torch.float64),
        )


@dataclass(frozen=True)
class StrongDraws:
    """One row per image (N), on the CPU: a row decides its image's strong view alone.

    view       (N,) int64, number of the crop and flip
    operation  (N, ops) int64, positions in `OPERATIONS`
    magnitude  (N, ops) float64 in 0..1, where in the operation's range
    square     (N, 3) float64 in 0..1: the square's side over the largest, its centre's row and column
    """

    view: Tensor
    operation: Tensor
    magnitude: Tensor
    square: Tensor

    def at(self, rows: Tensor) -> StrongDraws:
        """The rows `rows` (M,) int64."""
        return StrongDraws(self.view[rows], self.operation[rows], self.magnitude[rows], self.square[rows])


# An epoch's strong views prepared on the host, so that the device is never waited for afterwards.
#
# Which image gets which operation is known before any pixel is. The images of a chunk are therefore sorted by
# operation for each of the operations that follow each other, and every group is processed as one tensor. All
# this is computed for the whole rest of an epoch at once and moved to the device once.


@dataclass(frozen=True)
class Slot:
    """One operation for each of a chunk's C images, in the order of the operations.

    arrange       (C,) int64, where each image stands in the arrangement before
    counts        images per operation of `OPERATIONS`, on the host
    amounts       (C,) float64
    coefficients  (C, 6) int32, for the geometric operations
    """

    arrange: Tensor
    counts: tuple[int, ...]
    amounts: Tensor
    coefficients: Tensor


@dataclass(frozen=True)
class Chunk:
    """What C images undergo: crops and flips `view` (C,), `slots` one after the other, `restore` (C,) int64 to bring
    the last arrangement into the images' own order, and the `squares` (C, 4) to fill with the colour `fill` (3,)."""

    view: Tensor
    slots: tuple[Slot, ...]
    restore: Tensor
    squares: Tensor
    fill: Tensor


def plan(view: StrongView, draws: StrongDraws, *, chunk: int, size: int, device: torch.device) -> list[Chunk]:
    """The chunks of `chunk` images each (the last may be smaller) for draws of N images of `size` pixels."""
    count = len(draws.view)
    position = torch.arange(count)
    number = position // chunk
    first = number * chunk
    place = position.clone()  # where each image stands
    slots = []
    for k in range(view.ops):
        key = number * len(OPERATIONS) + draws.operation[:, k]
        order = key.argsort(stable=True)
        counts = key.bincount(minlength=-(-count // chunk) * len(OPERATIONS)).view(-1, len(OPERATIONS))
        operation = draws.operation[order, k]
        amount = amounts(operation, draws.magnitude[order, k])
        tables = (place[order] - first, amount, coefficients(operation, amount, size=size))
        slots.append(_slots(counts, *(torch.split(table.to(device), chunk) for table in tables)))
        place[order] = position
    fill = torch.tensor(view.fill, dtype=torch.uint8).to(device)
    edges = squares(draws.square, largest=view.cutout, size=size)
    ends = [torch.split(table.to(device), chunk) for table in (draws.view, place - first, edges)]
    return [
        Chunk(crop, tuple(slot[c] for slot in slots), restore, square, fill)
        for c, (crop, restore, square) in enumerate(zip(*ends, strict=True))
    ]


def _slots(counts: Tensor, *tables: tuple[Tensor, ...]) -> list[Slot]:
    rows = (tuple(row) for row in counts.tolist())
    return [Slot(order, row, amount, fixed) for row, order, amount, fixed in zip(rows, *tables, strict=True)]


# Pixels processed together: 14 groups of a single batch are so small that starting each operation costs more
# than its work (107 microseconds an image with a batch of 64 at a time, 66 with 8 of them, measured on one busy
# CPU core). More gain little and take memory.
CHUNK_PIXELS = 512 * 32 * 32


def strong_images(
    source: DeviceImages,
    index: Tensor,
    *,
    view: StrongView,
    draws: StrongDraws,
    batch_size: int,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """The strong views of the images `index` (N,), batch by batch: (B, 3, H, H) in channels_last memory.

    `draws` has one row per image of `index`. An image's view depends on its row alone: batches are made several
    at a time, which changes nothing but speed."""
    together = max(1, CHUNK_PIXELS // (source.size**2 * batch_size)) * batch_size
    chunks = plan(view, draws, chunk=together, size=source.size, device=index.device)
    for rows, chunk in zip(torch.split(index, together), chunks, strict=True):
        pixels = strengthened(source.pixels(rows, chunk.view), chunk)
        for batch in torch.split(pixels, batch_size):
            yield source.normalised(batch, dtype=dtype)


def strengthened(images: Tensor, chunk: Chunk) -> Tensor:
    """Strong views of the chunk's crops (C, H, H, 3) uint8."""
    return cutout(randaugment(images, chunk), chunk.squares, chunk.fill)


def randaugment(images: Tensor, chunk: Chunk) -> Tensor:
    """Images (C, H, H, 3) uint8 after the chunk's operations, in their own order."""
    for slot in chunk.slots:
        images = _operated(images.index_select(0, slot.arrange), slot)
    return images.index_select(0, chunk.restore)


def _operated(images: Tensor, slot: Slot) -> Tensor:
    """Images sorted by operation, each group after its own."""
    each = len(PIXEL_OPERATIONS)
    pixelwise = slot.counts[:each]
    *groups, geometric = torch.split(images, [*pixelwise, sum(slot.counts[each:])])
    *amounts, _ = torch.split(slot.amounts, [*pixelwise, len(geometric)])
    done = [
        operation.apply(group, amount)
        for operation, group, amount in zip(PIXEL_OPERATIONS, groups, amounts, strict=True)
        if len(group)
    ]
    if len(geometric):
        done.append(affine(geometric, slot.coefficients[sum(pixelwise) :]))
    return torch.cat(done)
