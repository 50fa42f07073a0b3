"""What a test does to a process from the inside: die at an instant, wait at a step, run into a limit."""

import ctypes
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill.execution import teachers
from distill.runs import files
from distill.runs.checkpoint import CheckpointSchedule
from distill.runs.directory import RunDirectory
from distill.teachers import table_build
from distill.teachers.table import TableFile
from distill.training import Member, this_world

Hooks = dict[str, Any]


def install(hooks: Hooks, report: Path) -> None:
    """Apply each hook named; `report` takes what the process leaves for the test to read."""
    known: dict[str, Callable[[Any, Path], None]] = {
        "checkpoints": checkpoints,
        "die": die,
        "gate": gate,
        "pace": pace,
        "limit": limit,
        "powerless": powerless,
        "accounts": accounts,
        "table": table,
        "world": world,
        "memory": memory,
    }
    for name, argument in hooks.items():
        known[name](argument, report)


def checkpoints(when: str, report: Path) -> None:
    """`every step`: the schedule of 2 % would leave none in runs that take a second."""
    assert when == "every step"
    CheckpointSchedule.due = lambda self: True  # type: ignore[method-assign]


def after_step(act: Callable[[int], None]) -> None:
    """Call `act` with the number of steps this process has done, after each of them."""
    advance = Member.advance
    done = [0]

    def advance_and_act(self: Member, *args: Any, **kwargs: Any) -> None:
        advance(self, *args, **kwargs)
        done[0] += 1
        act(done[0])

    Member.advance = advance_and_act  # type: ignore[method-assign]


def die(at: dict[str, Any], report: Path) -> None:
    """SIGKILL this process at the `count`-th thing it does to the disk, `within` a method of RunDirectory if given.

    Steps count too. Renames, links, syncs and removals are not done any more, writes are half done.
    """
    happened: list[str] = []
    inside: list[str] = []

    def strike(event: str) -> bool:
        if "within" not in at or at["within"] in inside:
            happened.append(event)
        return len(happened) == at["count"]

    def end() -> None:
        report.write_text(json.dumps({"event": happened[-1], "inside": inside}), encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)

    def mark(name: str) -> None:
        original = getattr(RunDirectory, name)

        def marked(self: RunDirectory, *args: Any, **kwargs: Any) -> Any:
            inside.append(name)
            try:
                return original(self, *args, **kwargs)
            finally:
                inside.pop()

        setattr(RunDirectory, name, marked)

    def before(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def strike_or_act(*args: Any, **kwargs: Any) -> Any:
            if strike(name):
                end()
            return original(*args, **kwargs)

        setattr(owner, name, strike_or_act)

    for name in ("replace", "link", "fsync", "ftruncate"):
        before(os, name)
    before(Path, "unlink")
    for name in ("start", "rewind", "log_epoch", "save", "finish"):
        mark(name)
    write, write_synced = os.write, files.write_synced

    def half_write(descriptor: int, data: bytes) -> int:
        if strike("write"):
            write(descriptor, data[: len(data) // 2])
            end()
        return write(descriptor, data)

    def half_write_synced(path: Path, data: bytes) -> None:
        if strike("write_synced"):
            path.write_bytes(data[: len(data) // 2])
            end()
        write_synced(path, data)

    def step(done: int) -> None:
        if strike("step"):
            end()

    os.write = half_write  # type: ignore[assignment]
    files.write_synced = half_write_synced
    after_step(step)


def gate(step: int, report: Path) -> None:
    """After `step` steps: create the report, and go on when somebody removes it."""

    def act(done: int) -> None:
        if done == step:
            report.write_text("here", encoding="utf-8")
            while report.exists():
                time.sleep(0.01)

    after_step(act)


def pace(seconds: float, report: Path) -> None:
    """Sleep after every step; the report appears after the first."""

    def act(done: int) -> None:
        if done == 1:
            report.write_text("here", encoding="utf-8")
        time.sleep(seconds)

    after_step(act)


def limit(where: dict[str, Any], report: Path) -> None:
    """RLIMIT_FSIZE of `bytes` from the `save`-th checkpoint on, or of a line too little when `epoch` is logged."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    save, log_epoch, saved = RunDirectory.save, RunDirectory.log_epoch, [0]

    def save_at_the_limit(self: RunDirectory, *args: Any) -> None:
        saved[0] += 1
        if saved[0] == where.get("save"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (where["bytes"], hard))
        save(self, *args)

    def log_epoch_at_the_limit(self: RunDirectory, metrics: Any) -> None:
        if metrics["epoch"] != where.get("epoch"):
            log_epoch(self, metrics)
            return
        # for this line alone: what the process says goes into a file too
        room = (self.path / "metrics.jsonl").stat().st_size + 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            log_epoch(self, metrics)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    RunDirectory.save = save_at_the_limit  # type: ignore[method-assign]
    RunDirectory.log_epoch = log_epoch_at_the_limit  # type: ignore[method-assign]


def powerless(yes: bool, report: Path) -> None:
    """Give up root's privileges: permissions of files hold for this process too."""
    assert yes
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    nothing = (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None, use_errno=True).capset(header, nothing) == 0, os.strerror(ctypes.get_errno())


def table(pace: dict[str, Any], report: Path) -> None:
    """Tables in chunks of `rows`, recorded at once, `seconds` for each; the report appears with the first."""
    TableFile.__init__.__kwdefaults__["chunk_rows"] = pace["rows"]
    build = table_build.build

    def paced(*args: Any, progress: Callable[[Any], None], **options: Any) -> bool:
        def tell(done: Any) -> None:
            report.write_text("here", encoding="utf-8")
            time.sleep(pace["seconds"])
            progress(done)

        return build(*args, progress=tell, record_seconds=0.0, **options)

    teachers.build = paced  # type: ignore[assignment]


def world(variables: dict[str, str], report: Path) -> None:
    """Be one of several processes: the variables that torchrun sets."""
    os.environ.update(variables)
    this_world.cache_clear()  # the server found itself alone


def memory(step: int, report: Path) -> None:
    """Run out of the device's memory in the step after `step` steps."""
    predict, done = Member.predict, [0]

    def predict_or_fail(self: Member, *args: Any) -> Any:
        done[0] += 1
        if done[0] > step:
            raise torch.OutOfMemoryError("out of memory")
        return predict(self, *args)

    Member.predict = predict_or_fail  # type: ignore[method-assign]


def accounts(yes: bool, report: Path) -> None:
    """Report what the schedule counted: seconds, seconds spent in saving, the cost of each save."""
    assert yes
    costs: list[float] = []
    begun = time.monotonic()
    save = RunDirectory.save

    def save_and_report(self: RunDirectory, *args: Any) -> None:
        start = time.monotonic()
        save(self, *args)
        costs.append(time.monotonic() - start)

    def note(done: int) -> None:
        content = {"steps": done, "seconds": time.monotonic() - begun, "costs": costs}
        report.write_text(json.dumps(content), encoding="utf-8")

    RunDirectory.save = save_and_report  # type: ignore[method-assign]
    after_step(note)
