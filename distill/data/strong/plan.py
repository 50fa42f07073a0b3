"""An epoch's strong views prepared on the host, so that the device is never waited for afterwards.

Which image gets which operation is known before any pixel is. The images of a chunk are therefore sorted by
operation for each of the operations that follow each other, and every group is processed as one tensor. All
this is computed for the whole rest of an epoch at once and moved to the device once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.strong.cutout import squares
from distill.data.strong.operations import OPERATIONS, amounts, coefficients
from distill.data.strong.view import StrongDraws, StrongView


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
    """What C images undergo: crops and flips `view` (C,), `slots` one after the other, `restore` (C,) int64 to
    bring the last arrangement into the images' own order, and the `squares` (C, 4) to cut out."""

    view: Tensor
    slots: tuple[Slot, ...]
    restore: Tensor
    squares: Tensor


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
    edges = squares(draws.square, largest=view.cutout, size=size)
    ends = [torch.split(table.to(device), chunk) for table in (draws.view, place - first, edges)]
    return [
        Chunk(crop, tuple(slot[c] for slot in slots), restore, square)
        for c, (crop, restore, square) in enumerate(zip(*ends, strict=True))
    ]


def _slots(counts: Tensor, *tables: tuple[Tensor, ...]) -> list[Slot]:
    rows = (tuple(row) for row in counts.tolist())
    return [Slot(order, row, amount, fixed) for row, order, amount, fixed in zip(rows, *tables, strict=True)]
