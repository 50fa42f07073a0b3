"""A table built chunk by chunk, from wherever an earlier attempt was stopped or killed."""

import contextlib
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill.data import Dataset
from distill.runs.files import StorageError, refuse_links, remove_leftovers, storage_errors
from distill.runs.layout import up_to_store
from distill.runs.store import size_of
from distill.teachers.table import TableFile, encode

RECORD_SECONDS = 2.0  # syncing every chunk would hold up a fast device

Answer = Callable[[Tensor, Tensor], Tensor]


class NonFiniteLogits(ValueError):
    """A logit of the teacher is NaN or infinite; the message names the image."""


@dataclass(frozen=True)
class Progress:
    """How far a table is: rows done of those there are, and the seconds that the rest will take at this pace."""

    done: int
    rows: int
    seconds_left: float


def answers(network: nn.Module, dataset: Dataset, *, precision: str, device: torch.device) -> Answer:
    """`answer(index, view)`: the logits (B, K) of views of training images, as a live teacher would give them."""
    network.eval()
    images = dataset.stream(batch_size=1, seed=0, device=device).source
    assert images is not None  # where views can be enumerated, the images are resident

    @torch.no_grad()
    def answer(index: Tensor, view: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits: Tensor = network(images.images(index.to(device), view.to(device))).logits
        return logits

    return answer


def missing_room(file: TableFile, chunks: Sequence[int]) -> str | None:
    """A sentence where the disk has too little room for these chunks."""
    needed = sum(len(file.span(chunk)) for chunk in chunks) * file.spec.row_bytes
    folder = next(parent for parent in (file.folder, *file.folder.parents) if parent.exists())
    with storage_errors(folder, action="read"):
        free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return f"a table of the teacher's logits takes {size_of(needed)} in {folder}, where {size_of(free)} are free"


def build(
    file: TableFile,
    chunks: Sequence[int],
    answer: Answer,
    *,
    batch_size: int,
    progress: Callable[[Progress], None] = lambda progress: None,
    stop_requested: Callable[[], bool] = lambda: False,
    record_seconds: float = RECORD_SECONDS,
) -> bool:
    """Write the chunks that `file.open()` found missing; whether all of them are there now.

    Hold a lock on the folder meanwhile. A kill at any instant loses what the last `record_seconds` brought.

    Args:
        file: the table.
        chunks: those to write, in this order.
        answer: logits (B, K) of images (B,) in views (B,), both int64 on the CPU.
        batch_size: rows computed at once.
        progress: called after each chunk.
        stop_requested: called after each batch; once it returns true, the build ends and the finished chunks are kept.
        record_seconds: chunks are synced and recorded this often.

    Raises:
        StorageError: the disk is full, or not to be written to; what was recorded before stays.
        NonFiniteLogits: a logit of the teacher is NaN or infinite.
    """
    crcs = file.recorded()
    for chunk in chunks:
        crcs[chunk] = None
    left = missing = sum(len(file.span(chunk)) for chunk in chunks)
    with _writable(file) as descriptor:

        def record() -> float:
            os.fsync(descriptor)
            file.record(crcs)
            return time.monotonic()

        recorded = begun = time.monotonic()
        try:
            for chunk in chunks:
                encoded = []
                for rows in _batches(file.span(chunk), batch_size):
                    if stop_requested():
                        record()
                        return False
                    encoded.append(_encoded(file, rows, answer))
                data = torch.cat(encoded).cpu().numpy().tobytes()
                _write(descriptor, data, file.span(chunk).start * file.spec.row_bytes)
                crcs[chunk] = zlib.crc32(data)
                if time.monotonic() - recorded >= record_seconds:
                    recorded = record()
                left -= len(file.span(chunk))
                pace = (time.monotonic() - begun) / (missing - left)  # seconds for a row
                progress(Progress(file.spec.rows - left, file.spec.rows, left * pace))
        except BaseException:
            with contextlib.suppress(OSError, StorageError):  # the error that ended it is the one to report
                record()
            raise
        record()
    return True


def _batches(rows: range, size: int) -> Iterator[range]:
    return (rows[first : first + size] for first in range(0, len(rows), size))


def _encoded(file: TableFile, rows: range, answer: Answer) -> Tensor:
    row = torch.arange(rows.start, rows.stop)
    logits = answer(row // file.spec.views, row % file.spec.views)
    if logits.shape != (len(rows), file.spec.classes):
        raise ValueError(f"the teacher gives logits {tuple(logits.shape)}, expected ({len(rows)}, {file.spec.classes})")
    try:
        return encode(logits)
    except ValueError:
        first = rows.start + int(logits.isfinite().all(dim=1).logical_not().int().argmax())
        image, view = divmod(first, file.spec.views)
        raise NonFiniteLogits(
            f"its logits of training image {image}, view {view} are not finite: train the teacher again"
        ) from None


@contextlib.contextmanager
def _writable(file: TableFile) -> Iterator[int]:
    with storage_errors(file.rows_path):
        refuse_links(*up_to_store(file.folder))
        file.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(file.folder)
        descriptor = os.open(file.rows_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
