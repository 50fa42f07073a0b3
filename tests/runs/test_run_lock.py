"""The lock of a run: real processes exclude each other, and a death frees it."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import distill
from distill.runs.files import StorageError
from distill.runs.lock import RunLock, is_held

ROOT = Path(next(iter(distill.__path__))).parent
HOLD = """
import os, sys, time
from pathlib import Path
from distill.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
assert lock.acquire()
child = os.fork() if "fork" in sys.argv else os.getpid()
if child:
    print(child, flush=True)
time.sleep(60)
"""
Hold = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that takes the lock of a run and sleeps; returns it and the id it prints."""
    started: list[subprocess.Popen[str]] = []

    def start(run: Path, *words: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-c", HOLD, str(run), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_told_who_has_it_and_a_kill_frees_it(tmp_path: Path, hold: Hold) -> None:
    run = tmp_path / "runs" / "run"
    first, _ = hold(run)
    second = RunLock(run)
    assert not second.acquire()
    assert is_held(run)
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(rf"process {first.pid} on \S+ since {when} \(-c .*\)", second.holder())
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not is_held(run)
    assert second.acquire()
    assert f"process {os.getpid()} on" in RunLock(run).holder()
    second.release()


def test_wait_says_once_who_it_waits_for_and_takes_over_when_that_process_dies(tmp_path: Path, hold: Hold) -> None:
    first, _ = hold(tmp_path)
    told: list[str] = []

    def on_wait(holder: str) -> None:
        told.append(holder)
        first.kill()

    with RunLock(tmp_path) as lock:
        lock.wait(on_wait, poll=0.05)
        assert lock.held
        assert len(told) == 1
        assert f"process {first.pid} " in told[0]
        assert not RunLock(tmp_path).acquire()
    assert not is_held(tmp_path)


def test_a_forked_worker_does_not_outlive_the_lock_of_its_parent(tmp_path: Path, hold: Hold) -> None:
    parent, worker = hold(tmp_path, "fork")
    try:
        assert is_held(tmp_path)
        parent.kill()
        parent.wait()
        os.kill(worker, 0)  # it still lives
        assert RunLock(tmp_path).acquire()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_two_locks_of_one_process_exclude_each_other_across_threads(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    assert first.acquire()
    assert first.acquire()  # its own: nothing to wait for
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(second.acquire()))
    thread.start()
    thread.join()
    assert seen == [False]
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_looking_whether_it_is_held_does_not_make_it_look_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()
    descriptor = os.open(tmp_path / "lock", os.O_RDONLY)  # a look, caught in the act
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looks = iter([lambda: None, lambda: os.close(descriptor)])  # it ends in the pause before the second attempt
    monkeypatch.setattr("distill.runs.lock.time.sleep", lambda seconds: next(looks)())
    assert lock.acquire()
    assert next(looks, None) is None
    lock.release()


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "absent")
    assert not is_held(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_folder_that_was_made_anew_is_a_new_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    old = RunLock(run)
    assert old.acquire()
    (run / "lock").unlink()
    run.rmdir()
    new = RunLock(run)
    assert new.acquire()
    assert not RunLock(run).acquire()
    old.release()
    assert is_held(run)
    new.release()


def test_a_lock_file_that_is_replaced_while_it_is_taken_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_flock = fcntl.flock
    calls: list[int] = []

    def replace_first(descriptor: int, kind: int) -> None:
        if not calls:
            (tmp_path / "lock").unlink()  # somebody deletes the run and starts it again
            (tmp_path / "lock").touch()
        calls.append(kind)
        real_flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    lock = RunLock(tmp_path)
    assert lock.acquire()
    assert not RunLock(tmp_path).acquire()
    lock.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_holder_that_says_nothing_readable_is_another_process(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert RunLock(tmp_path).holder() == "another process"


def test_a_folder_that_cannot_be_made_or_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="part of its path is a file"):
        RunLock(tmp_path / "file" / "run").acquire()

    def read_only(*arguments: object, **options: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StorageError, match="read-only file system; choose a folder"):
        RunLock(tmp_path).acquire()


def test_a_file_system_without_locks_is_a_sentence_and_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    lock = RunLock(tmp_path)
    with pytest.raises(StorageError, match="no locks available"):
        lock.acquire()
    assert not lock.held


def test_waiting_polls_and_does_not_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if seconds == 0.5:
            first.release()

    monkeypatch.setattr(time, "sleep", sleep)
    second.wait()
    assert pauses.count(0.5) == 1
    second.release()
