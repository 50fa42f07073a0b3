"""Strong views made from the images resident on a device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distill.data.resident import DeviceImages
from distill.data.strong.affine import affine
from distill.data.strong.cutout import cutout
from distill.data.strong.operations import PIXEL_OPERATIONS
from distill.data.strong.plan import Chunk, Slot, plan
from distill.data.strong.view import StrongDraws, StrongView

# Pixels processed together: 14 groups of a single batch are so small that starting each operation costs more
# than its work (107 microseconds an image with a batch of 64 at a time, 66 with 8 of them, measured on one busy
# CPU core). More gain little and take memory.
CHUNK_PIXELS = 512 * 32 * 32


def strong_images(
    source: DeviceImages, index: Tensor, *, view: StrongView, draws: StrongDraws, batch_size: int
) -> Iterator[Tensor]:
    """The strong views of the images `index` (N,), batch by batch: (B, 3, H, H) float32 in channels_last memory.

    `draws` has one row per image of `index`. An image's view depends on its row alone: batches are made several
    at a time, which changes nothing but speed."""
    together = max(1, CHUNK_PIXELS // (source.size**2 * batch_size)) * batch_size
    fill = torch.tensor(view.fill, dtype=torch.uint8).to(index.device)
    chunks = plan(view, draws, chunk=together, size=source.size, device=index.device)
    for rows, chunk in zip(torch.split(index, together), chunks, strict=True):
        pixels = cutout(randaugment(source.pixels(rows, chunk.view), chunk), chunk.squares, fill)
        for batch in torch.split(pixels, batch_size):
            yield source.normalised(batch)


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
