"""TensorBoard events of a run; trouble with them is logged once and never stops the run."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

Scalar = bool | int | float | str


class Board:
    """Writes one events file per session into `directory`, begun at the first use.

    Written at once, in the caller's thread: torch's SummaryWriter keeps a thread per run, loses its queue
    when the process is killed, and prints a trace when the disk is full. `resume_step`: what older sessions
    wrote for this step and later is to be forgotten by TensorBoard (`purge_step` of SummaryWriter).
    """

    def __init__(self, directory: Path, *, resume_step: int | None = None) -> None:
        self._directory = directory
        self._resume_step = resume_step
        self._path: Path | None = None
        self._broken = False

    def scalars(self, values: Mapping[str, object], *, step: int, prefix: str = "") -> None:
        """One scalar for every number in the nested mapping `values`; tags are the keys joined by `/`."""
        numbers = {
            f"{prefix}{tag}": float(value)
            for tag, value in flatten(values, separator="/").items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._carefully(lambda: self._write_scalars(numbers, step))

    def hparams(self, hyperparameters: Mapping[str, object]) -> None:
        """One row of TensorBoard's HPARAMS page, beside the last values of what `scalars` wrote."""
        self._carefully(lambda: self._write_hparams(flatten(hyperparameters, separator=".")))

    def _carefully(self, write: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            write()
        except Exception as error:  # whatever it is (disk, versions, a missing package), the run matters more
            self._broken = True
            _log.warning("TensorBoard events of %s are no longer written (%s); the run goes on", self._directory, error)

    def _write_scalars(self, numbers: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._write({"step": step, "summary": Summary(value=values)})

    def _write_hparams(self, hyperparameters: Mapping[str, Scalar]) -> None:
        from torch.utils.tensorboard import summary as builders

        build: Any = builders.hparams  # torch left it untyped
        # The first of the three would say which columns the page has, and the page believes whichever run it reads
        # first: of a sweep it would lack what that run has not. Without it, it takes the columns of all runs.
        _, begun, ended = build(dict(hyperparameters), {})
        self._write({"summary": begun}, {"summary": ended})

    def _write(self, *events: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._path is None:
            self._path, header = self._begin()
            events = (*header, *events)
        with open(self._path, "ab") as file:
            records = RecordWriter(file)
            for fields in events:
                records.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def _begin(self) -> tuple[Path, list[Mapping[str, Any]]]:
        """The events file of this process, and its first events."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # TensorBoard reads the files in the order of their names: a counter needs no clock
        number = sum(1 for _ in self._directory.glob("events.*"))
        header: list[Mapping[str, Any]] = [{"file_version": "brain.Event:2"}]
        if self._resume_step is not None and number > 0:
            header.append({"step": self._resume_step, "session_log": SessionLog(status=SessionLog.START)})
        return self._directory / f"events.out.tfevents.{number:010d}", header


def flatten(values: Mapping[str, object], *, separator: str, prefix: str = "") -> dict[str, Scalar]:
    """Nested mappings as one level; what is no scalar (lists, None) becomes its text."""
    flat: dict[str, Scalar] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, separator=separator, prefix=f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
