"""The files of a table: `rows.bin`, and `header.json` with what it is and the checksum of every finished chunk.

A chunk is a run of rows that is written, synced and only then recorded. Nothing that is not recorded is trusted, and
what is recorded is checked against its checksum whenever the table is opened.
"""

import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.runs.files import StorageError, read_json, storage_errors, write_json
from distill.teachers.table_spec import TableSpec

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
                descriptor = os.open(self.rows_path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None, list(range(self.chunks))
            try:
                size = os.fstat(descriptor).st_size
                # a private map may be written to without reaching the file: torch knows no read-only tensors
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
        """Writes the header; the rows it vouches for must be on the disk. Raises StorageError."""
        header: dict[str, Any] = {"table": self.spec.facts, "chunk_rows": self._chunk_rows, "crc32": list(crcs)}
        write_json(self.header_path, header)

    def _crc(self, mapped: mmap.mmap | bytes, chunk: int) -> int | None:
        rows = self.span(chunk)
        start, stop = rows.start * self.spec.row_bytes, rows.stop * self.spec.row_bytes
        if len(mapped) < stop:
            return None
        with memoryview(mapped) as view:
            return zlib.crc32(view[start:stop])
