"""Writes the directory of one run, with TensorBoard events. The caller holds the lock of the run (`lock.RunLock`)."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.runs import files
from distill.runs.checkpoint import Loaded, load_checkpoint, remove_checkpoints, save_checkpoint, save_weights
from distill.runs.config_file import read_config, write_config
from distill.runs.layout import (
    CONFIG,
    FAILED,
    LAST,
    METRICS,
    PREVIOUS,
    PROVENANCE,
    RESULT,
    STUDENT,
    STUDENT_EMA,
    TIMING,
)
from distill.runs.records import SEAL, changed, digest_of_metrics, digests, sealed


class RunDirectory:
    """Writer of one run: `start`, `load`, `rewind`; `log_epoch`, `log_timing`, `save`; `finish` or `fail`.

    Every method that writes raises StorageError (one sentence) and leaves the existing files intact.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._board = Board(path)
        self._config: Mapping[str, Any] = {}
        self._known: dict[str, bytes] = {}  # the content of records that others may remove or change meanwhile
        self._seal: Mapping[str, str] = {}  # of the checkpoint that was loaded

    @property
    def is_finished(self) -> bool:
        """Whether `result.json` is there: it is written last."""
        return (self.path / RESULT).is_file()

    @property
    def result(self) -> dict[str, Any] | None:
        """`result.json`, None before the run is finished. Raises StorageError when it is damaged."""
        return files.read_json(self.path / RESULT)

    @property
    def failure(self) -> dict[str, Any] | None:
        """`failed.json`, None unless the run failed. Raises StorageError when it is damaged."""
        return files.read_json(self.path / FAILED)

    def start(self, *, config: Mapping[str, Any], provenance: Mapping[str, object]) -> None:
        """Begins or resumes the run: `config.yaml` and `provenance.json` are written by the first session.

        A later session appends its provenance to the list `sessions`. Raises ValueError when the run is
        finished, failed (`clear_failure` first) or the folder belongs to another run.
        """
        self._refuse_closed()
        with files.storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        files.remove_leftovers(self.path)
        if (found := self._run_here()) not in (None, config["run_id"]):
            raise ValueError(f"{self.path} belongs to run {found}, not {config['run_id']}: choose another runs_dir")
        if not (self.path / CONFIG).exists() or not self._has_checkpoint:
            write_config(self.path, config)
        self._config = config
        with files.storage_errors(self.path / CONFIG, action="read"):
            self._known[CONFIG] = files.read_record(self.path / CONFIG)
        self._record_session(provenance)

    def load(self) -> Loaded | None:
        """The newest usable checkpoint (tensors on the CPU, state, note), None where there is none.

        Raises StorageError where the configuration is not the one that was sealed with it.
        """
        loaded = load_checkpoint(self.path)
        if loaded is not None:
            self._seal = loaded.state.pop(SEAL, {})
            if (self.path / CONFIG).exists():
                read_config(self.path, expected_sha256=self._seal.get(CONFIG))
        return loaded

    def rewind(self, epochs: int) -> None:
        """Removes what was logged after `epochs` finished epochs (0: all of it); call it before logging.

        Raises StorageError when the log lacks an epoch that the checkpoint has, or is not the one sealed with it.
        """
        kept = files.keep_epochs(self.path / METRICS, epochs)
        files.keep_epochs(self.path / TIMING, epochs)
        if kept != list(range(1, epochs + 1)):
            raise files.StorageError(
                f"{self.path / METRICS} does not hold epochs 1 to {epochs} of its checkpoint: "
                f"delete the folder {self.path} to start the run again"
            )
        if METRICS in self._seal and digest_of_metrics(self.path, epochs) != self._seal[METRICS]:
            raise files.StorageError(changed(self.path / METRICS))
        self._known[METRICS] = self._lines()
        self._board = Board(self.path, resume_step=epochs + 1)

    def log_epoch(self, metrics: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`, before `save`: `epoch` (from 1), nothing that depends on the clock."""
        self._mend()
        self._known[METRICS] = self._lines() + files.append_line(self.path / METRICS, metrics)
        self._board.scalars(_without_epoch(metrics), step=metrics["epoch"])

    def log_timing(self, timing: Mapping[str, Any]) -> None:
        """One line of `timing.jsonl` with `epoch`; in TensorBoard under `timing/`."""
        files.append_line(self.path / TIMING, timing)
        self._board.scalars(_without_epoch(timing), step=timing["epoch"], prefix="timing/")

    def log_hparams(self) -> None:
        """The run's row in TensorBoard's HPARAMS page: its config and the last values of `log_epoch`."""
        self._board.hparams(self._config.get("config", {}))

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """A checkpoint; the lines logged before it are on the disk first, so `rewind` always finds them."""
        self._mend()
        files.sync(self.path / METRICS)
        save_checkpoint(self.path, tensors, {**state, SEAL: digests(self._records())})

    def finish(
        self, result: Mapping[str, Any], *, weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """Exports the student, then writes `result.json`, then removes the checkpoints; returns the result.

        `run_id`, `finished` and `weights_sha256` are filled in, and `ema_sha256` where the weights were `averaged`. A
        process killed in between resumes and repeats it.
        """
        files.sync(self.path / METRICS)
        sha256 = {"weights_sha256": save_weights(self.path / STUDENT, weights)}
        if averaged is not None:
            sha256["ema_sha256"] = save_weights(self.path / STUDENT_EMA, averaged)
        self.log_hparams()
        self._mend()
        identified = {"run_id": self._config["run_id"], "finished": _now()}
        final = sealed({**identified, **result, **sha256}, self._records())
        files.write_json(self.path / RESULT, final)
        self.tidy()
        return final

    def fail(self, failure: Mapping[str, Any]) -> None:
        """Writes `failed.json` (epoch, step, term, message; `when` is added); the good checkpoint stays."""
        files.write_json(self.path / FAILED, {"when": _now(), **failure})

    def clear_failure(self) -> None:
        """Removes `failed.json`, so that `start` resumes the run from its last good checkpoint (`--retry`)."""
        with files.storage_errors(self.path / FAILED):
            (self.path / FAILED).unlink(missing_ok=True)

    @property
    def is_tidy(self) -> bool:
        """Whether `tidy` would find nothing to remove."""
        return not self.is_finished or not (self._has_checkpoint or any(files.leftovers(self.path)))

    @property
    def _has_checkpoint(self) -> bool:
        return any((self.path / name).exists() for name in (LAST, PREVIOUS))

    def _run_here(self) -> str | None:
        """The id in `config.yaml`; None where there is none, or only a damaged one with nothing that belongs to it."""
        if not (self.path / CONFIG).exists():
            return None
        try:
            return str(read_config(self.path)["run_id"])
        except files.StorageError as error:
            if not self._has_checkpoint:
                return None
            remedy = "restore it, or delete the folder to start the run again"
            raise files.StorageError(f"{error}; {remedy}") from error

    def tidy(self) -> None:
        """Removes files that a finished run no longer needs, also after a kill just behind the result."""
        if self.is_finished:
            remove_checkpoints(self.path)
            files.remove_leftovers(self.path)

    def _lines(self) -> bytes:
        known = self._known.get(METRICS)
        return b"".join(line for line, _ in files.whole_lines(self.path / METRICS)) if known is None else known

    def _records(self) -> dict[str, bytes]:
        return {**self._known, METRICS: self._lines()}

    def _mend(self) -> None:
        """Writes records again that were removed or changed while the run was at work."""
        for name, data in self._known.items():
            try:
                found = files.read_record(self.path / name)
            except (OSError, files.StorageError):
                found = None
            if (found or b"") != data:
                what = "removed" if found is None else "changed"
                _log.warning("%s was %s while the run was at work: it is written again", self.path / name, what)
                files.write_bytes(self.path / name, data)

    def _refuse_closed(self) -> None:
        if self.is_finished:
            raise ValueError(f"{self.path} is finished: delete the folder to train it again")
        if (self.path / FAILED).is_file():
            raise ValueError(f"{self.path} failed before: add --retry to take it up from its last good state")

    def _record_session(self, provenance: Mapping[str, object]) -> None:
        path = self.path / PROVENANCE
        try:
            known = files.read_json(path)
        except files.StorageError as error:  # a record for people: losing it must not cost the run
            known = {"note": str(error), "sessions": []}
        if known is None:
            known = {**provenance, "started": _now(), "sessions": []}
        else:
            known.setdefault("sessions", []).append({**provenance, "started": _now()})
        files.write_json(path, known)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _without_epoch(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "epoch"}


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
        """One row of TensorBoard's HPARAMS page, with the last values that `scalars` wrote."""
        self._carefully(lambda: self._write_hparams(flatten(hyperparameters, separator=".")))

    def _carefully(self, write: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            write()
        except Exception as error:  # any error (disk, versions, a missing package): training goes on
            self._broken = True
            _log.warning("TensorBoard events of %s are no longer written (%s); the run goes on", self._directory, error)

    def _write_scalars(self, numbers: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._write({"step": step, "summary": Summary(value=values)})

    def _write_hparams(self, hyperparameters: Mapping[str, Scalar]) -> None:
        from torch.utils.tensorboard import summary as builders

        build: Any = builders.hparams  # torch left it untyped
        # The first of the three events defines the columns of the page, and TensorBoard uses that of the first run it
        # reads: columns of other runs would be missing. Without the event the page has the columns of all runs.
        _, begun, ended = build(dict(hyperparameters), {})
        self._write({"summary": begun}, {"summary": ended})

    def _write(self, *events: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._path is None:
            self._path, header = self._begin()
            events = (*header, *events)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(self._path, flags, 0o666), "ab") as file:
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
