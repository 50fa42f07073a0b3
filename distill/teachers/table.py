"""The exact teacher table: the logits of every view of every training image, read instead of computed."""

import hashlib
import json
import mmap
import os
import sys
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.data import Batch, Dataset
from distill.models import Output
from distill.runs.files import StorageError, read_json, refuse_links, storage_errors, write_json
from distill.runs.identity import NUMERICS_VERSION, canonical
from distill.runs.layout import up_to_store

# The code of one row of logits: K int16 and two float32, side by side, so that a row is read from one place.
#
# A row is `K + 4` int16, one more where that is odd: the bits of scale and offset, then the codes. Decoded, a logit is
# `code * scale + offset`; scale and offset are the row's own and use the whole range of int16, so a logit is off by at
# most (highest - lowest) / 131070. Half floats would be off by 1/2048 of each logit: near the teacher, where the soft
# term's gradient is a small difference of logits, that is too coarse.

LEVELS = 65535  # steps between the lowest and the highest code
LOWEST, HIGHEST = -32768, 32767
HEAD = 4  # int16 that hold scale and offset


def row_width(classes: int) -> int:
    """How many int16 a row of `classes` logits takes: even, so that the float32 of the next row are aligned."""
    return HEAD + classes + classes % 2


def encode(logits: Tensor) -> Tensor:
    """Rows (R, row_width(K)) int16 of logits (R, K), which may be of any floating type.

    Equal logits come back exactly. ValueError, with the first such row, where a logit is not finite.
    """
    values = logits.to(torch.float64)
    finite = values.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f"row {int(finite.logical_not().int().argmax())} has a logit that is not finite")
    lowest, highest = values.amin(dim=1), values.amax(dim=1)
    scale = ((highest - lowest) / LEVELS).to(torch.float32)
    # the codes are made for the scale and offset as stored, so that their rounding adds nothing
    offset = (lowest - LOWEST * scale.to(torch.float64)).to(torch.float32)
    step = torch.where(scale > 0, scale, 1).to(torch.float64)
    codes = (values - offset.to(torch.float64).unsqueeze(1)) / step.unsqueeze(1)
    rows = torch.zeros(len(values), row_width(values.shape[1]), dtype=torch.int16, device=logits.device)
    rows[:, :HEAD] = torch.stack([scale, offset], dim=1).view(torch.int16)
    rows[:, HEAD : HEAD + values.shape[1]] = codes.round().clamp(LOWEST, HIGHEST).to(torch.int16)
    return rows


def decode(rows: Tensor, *, classes: int) -> Tensor:
    """Logits (R, classes) float32 of rows as `encode` makes them."""
    code = rows[:, :HEAD].view(torch.float32)
    return torch.addcmul(code[:, 1:], rows[:, HEAD : HEAD + classes].to(torch.float32), code[:, :1])


FORMAT = 1  # of the files


@dataclass(frozen=True)
class TableSpec:
    """All logits of one teacher on one training set: N images x V views x K classes, rows in that order.

    weights    digest of the teacher's weights
    data       digest of the training set before its hold-out, `holdout` images of which are left out
    precision  `fp32` or `bf16`, in which the teacher is run
    device     the kind of device it is run on: the two round differently, and fp32 on a GPU may be TF32
    """

    weights: str
    data: str
    holdout: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int
    flip: bool
    precision: str
    device: str
    images: int
    views: int
    classes: int

    @classmethod
    def of(cls, dataset: Dataset, *, weights: str, precision: str, device: str) -> "TableSpec":
        """The table of the teacher with these weights on the training images of `dataset`."""
        data = dataset.identity()
        assert dataset.num_views is not None  # a table is refused for other data sets
        return cls(
            weights=weights,
            data=str(data["train"]),
            holdout=dataset.holdout,
            mean=dataset.mean,
            std=dataset.std,
            pad=data["pad"],
            flip=data["flip"],
            precision=precision,
            device=device,
            images=len(dataset.train_labels),
            views=dataset.num_views,
            classes=dataset.num_classes,
        )

    @property
    def rows(self) -> int:
        """Images times views."""
        return self.images * self.views

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return 2 * row_width(self.classes)

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.row_bytes

    @property
    def facts(self) -> dict[str, Any]:
        """The header of the file; a file with another header is another table."""
        machine = {"format": FORMAT, "byteorder": sys.byteorder, "numerics": NUMERICS_VERSION}
        facts = canonical({**machine, **asdict(self)})
        assert isinstance(facts, dict)
        return dict(facts)

    @property
    def key(self) -> str:
        """16 hexadecimal characters: the digest of `facts`."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode("ascii")).hexdigest()[:16]


# The files of a table: `rows.bin`, and `header.json` with what it is and the checksum of every finished chunk.
#
# A chunk is a run of rows that is written, synced and only then recorded. Nothing that is not recorded is trusted, and
# what is recorded is checked against its checksum whenever the table is opened.

ROWS, HEADER = "rows.bin", "header.json"
CHUNK_ROWS = 16384


class TableFile:
    """The table `spec` in `folder`, which need not exist."""

    def __init__(self, folder: Path, spec: TableSpec, *, chunk_rows: int = CHUNK_ROWS) -> None:
        self.folder, self.spec = folder, spec
        self.rows_path, self.header_path = folder / ROWS, folder / HEADER
        self._chunk_rows = chunk_rows

    @property
    def chunks(self) -> int:
        """How many chunks the table has."""
        return -(-self.spec.rows // self._chunk_rows)

    def span(self, chunk: int) -> range:
        """The rows of a chunk."""
        return range(chunk * self._chunk_rows, min((chunk + 1) * self._chunk_rows, self.spec.rows))

    def open(self) -> tuple[Tensor | None, list[int]]:
        """The rows (N * V, row width) int16, mapped, where all are sound; else None. And the chunks that are not.

        The checksums are taken of the map itself: that brings the file into the page cache, once for all processes
        that map it, and afterwards a mapped table is as fast as one in memory of the process's own (measured).

        Raises StorageError where a file cannot be read.
        """
        recorded = self.recorded()
        if not any(crc is not None for crc in recorded):
            return None, list(range(self.chunks))
        with storage_errors(self.rows_path, action="read"):
            try:
                refuse_links(*up_to_store(self.folder))
                descriptor = os.open(self.rows_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return None, list(range(self.chunks))
            try:
                size = os.fstat(descriptor).st_size
                # a private map may be written to without reaching the file: torch has no read-only tensors
                mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) if size else b""
            finally:
                os.close(descriptor)
        unsound = [chunk for chunk, crc in enumerate(recorded) if crc is None or crc != self._crc(mapped, chunk)]
        if unsound:
            return None, unsound
        rows = torch.frombuffer(mapped, dtype=torch.int16, count=self.spec.bytes // 2)
        return rows.view(self.spec.rows, -1), []

    def recorded(self) -> list[int | None]:
        """The recorded checksum of each chunk; a damaged header, or one of another table, records nothing."""
        nothing: list[int | None] = [None] * self.chunks
        try:
            header = read_json(self.header_path) or {}
        except StorageError as error:
            if isinstance(error.__cause__, OSError):
                raise
            return nothing
        if header.get("table") != self.spec.facts or header.get("chunk_rows") != self._chunk_rows:
            return nothing
        found = header.get("crc32")
        if not isinstance(found, list) or len(found) != self.chunks:
            return nothing
        return [crc if isinstance(crc, int) else None for crc in found]

    def record(self, crcs: Sequence[int | None]) -> None:
        """Writes the header; the rows that it lists must be on the disk. Raises StorageError."""
        header: dict[str, Any] = {"table": self.spec.facts, "chunk_rows": self._chunk_rows, "crc32": list(crcs)}
        write_json(self.header_path, header)

    def _crc(self, mapped: mmap.mmap | bytes, chunk: int) -> int | None:
        rows = self.span(chunk)
        start, stop = rows.start * self.spec.row_bytes, rows.stop * self.spec.row_bytes
        if len(mapped) < stop:
            return None
        with memoryview(mapped) as view:
            return zlib.crc32(view[start:stop])


SHARE = 0.5  # of a GPU's free memory that a table may take; a larger one stays on the host


class TableTeacher:
    """A teacher that reads its logits from a table, (N * V, row width) int16, by `Batch.index` and `Batch.view`.

    An approximation within the code's stated error, never bit-identical to the live teacher. It has logits and
    nothing else, for the enumerated views only: it cannot serve a batch with a strong view.

    Args:
        rows: the mapped rows, as `TableFile.open` gives them.
        spec: what they are.
        network: the network behind them, for objectives that read its shapes; it is not run.
        device: where the batches lie. A table that fits there beside its batches is moved there once.
    """

    def __init__(self, rows: Tensor, *, spec: TableSpec, network: nn.Module, device: torch.device) -> None:
        if rows.shape[0] != spec.rows:
            raise ValueError(f"rows must be {spec.rows} (images x views), got {rows.shape[0]}: build the table again")
        self.network = network.eval().requires_grad_(False)
        self.key: Hashable = ("table", spec.key)
        self._rows = rows.to(device) if _fits(rows, device) else rows
        self._views, self._classes = spec.views, spec.classes

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Output:
        """`Output` with the logits (B, K) float32.

        Raises ValueError for a batch with a strong view, and for one without numbered views where the check is
        cheap (on a CPU); elsewhere the logits of a row without a view number are nan, which stops the run.
        """
        if batch.strong is not None:
            raise ValueError("a table has no logits of strong views: set teacher.source=live")
        row = batch.index * self._views + batch.view
        if row.device.type == "cpu":
            if (batch.view < 0).any():
                raise ValueError("a table has logits of numbered views only, got view -1: set teacher.source=live")
            return Output(decode(self._rows.index_select(0, row), classes=self._classes))
        return self._unchecked(row, batch.view)

    def _unchecked(self, row: Tensor, view: Tensor) -> Output:
        """Without a look at the values, for which a GPU would wait: rows without a view are nan."""
        rows = self._rows.index_select(0, row.clamp(min=0).to(self._rows.device)).to(row.device)
        logits = decode(rows, classes=self._classes)
        return Output(logits.masked_fill((view < 0).unsqueeze(1), torch.nan))


def _fits(rows: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return rows.numel() * rows.element_size() <= SHARE * free
