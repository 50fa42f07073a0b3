"""One writer per run: an advisory `flock` that the kernel frees when its process dies."""

import contextlib
import fcntl
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from distill.runs.escapes import escaped
from distill.runs.files import StorageError, parse_json, read_record, refuse_links, storage_errors
from distill.runs.layout import LOCK, up_to_store


class Busy(RuntimeError):
    """Another process holds the lock of the run; the message names it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(escaped(sentence))


class RunLock:
    """The lock of the run in `directory` (its file `lock` stays; only the kernel's lock on it counts).

    Threads and processes exclude each other; one object may be acquired again after its release. As a context
    manager it releases at the end, and does not acquire at the beginning.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Takes the lock if it is free, at once; creates the run's folder. Raises StorageError."""
        # `is_held` of another process takes the lock for microseconds: a second attempt distinguishes it
        # from a real holder
        for pause in (0.0, 0.02, 0.05):
            time.sleep(pause)
            if self._try():
                return True
        return False

    def holder(self) -> str:
        """Who holds it, to be put into a sentence: `process 12 on host since TIME (COMMAND)`."""
        try:
            who = parse_json(read_record(self.path))
            return f"process {who['pid']} on {who['host']} since {who['since']} ({who['command']})"
        except (OSError, ValueError, KeyError, TypeError, StorageError):
            return "another process"

    def wait(self, on_wait: Callable[[str], None] | None = None, *, poll: float = 0.5) -> None:
        """Acquires, trying again every `poll` seconds; `on_wait(holder)` is called for each new holder."""
        noted = None
        while not self.acquire():
            holder = self.holder()
            if on_wait is not None and holder != noted:
                noted = holder
                on_wait(holder)
            time.sleep(poll)

    def release(self) -> None:
        """Frees the lock; does nothing when it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        _open_locks.discard(self)
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> bool:
        if self.held:
            return True
        with storage_errors(self.path):
            refuse_links(*up_to_store(self.path.parent))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                # a folder deleted and made again has another lock file: a lock on the one opened here protects nothing
                if not _flock(descriptor, fcntl.LOCK_EX) or not _is_same_file(descriptor, self.path):
                    os.close(descriptor)
                    return False
                _say_who(descriptor)
            except OSError:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        _open_locks.add(self)
        return True


def is_held(directory: Path) -> bool:
    """Whether a process holds the lock of the run in `directory`; writes nothing. Raises StorageError."""
    path = directory / LOCK
    with storage_errors(path, action="read"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _say_who(descriptor: int) -> None:
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([os.path.basename(word) for word in sys.argv[:1]] + sys.argv[1:])[:200],
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode("utf-8"), 0)


_open_locks: set[RunLock] = set()


def _forget_in_child() -> None:
    # a forked worker shares the open file: left open there, the lock would outlive the process that took it
    for lock in list(_open_locks):
        if lock._descriptor is not None:
            os.close(lock._descriptor)
            lock._descriptor = None
    _open_locks.clear()


os.register_at_fork(after_in_child=_forget_in_child)
