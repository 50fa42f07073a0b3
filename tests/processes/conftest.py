"""Real processes of `distill`, forked from a server that has imported torch (see `fork_server.py`)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import distill

HERE = Path(__file__).parent
ROOT = Path(next(iter(distill.__path__))).parent
PATIENCE = 60.0  # seconds; far more than anything here takes

DATA = (
    "dataset=synthetic dataset.classes=4 dataset.train_size=60 dataset.test_size=40 dataset.image_size=8 "
    "recipe.batch_size=16 teacher.recipe.batch_size=16"
).split()
TINY = ["student._target_=tiny_student.Tiny"]
TINY_TEACHER = ["teacher.network._target_=tiny_student.Tiny"]
STEPS = 4  # an epoch: three batches of 16 and one of 12


@dataclass(frozen=True)
class Ended:
    """A process that has ended: exit code (negative: the signal), and what it said."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}


class Server:
    """The other end of `fork_server.py`."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "error", str(HERE / "fork_server.py")]
        self._process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._read() == {"ready": True}

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        self.ask(do="end")
        self._process.communicate(timeout=PATIENCE)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server has died; its message is on stderr"
        answer: dict[str, Any] = json.loads(line)
        return answer


class Running:
    """A process at work."""

    def __init__(self, server: Server, pid: int, base: Path) -> None:
        self._server, self.pid, self._base = server, pid, base

    @property
    def report(self) -> Path:
        return self._base.with_suffix(".report")

    def says(self, text: str) -> None:
        """Return as soon as the process has printed `text`."""
        until(lambda: text in self._read("out"), f"{text!r} on the screen, which shows {self._read('out')!r}")

    def reaches(self) -> None:
        """Return as soon as the process stands at its gate, or has done its first step."""
        until(self.report.exists, f"a step; the process says {self._read('out')}{self._read('err')}")

    def passes(self) -> None:
        """Open the gate."""
        self.report.unlink()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> Ended:
        code = self._server.ask(do="wait", pid=self.pid, seconds=PATIENCE)["code"]
        assert code is not None, f"process {self.pid} does not end; it says {self._read('out')}{self._read('err')}"
        return Ended(code, self._read("out"), self._read("err"))

    def kill(self) -> Ended:
        self.signal(signal.SIGKILL)
        return self.end()

    def _read(self, stream: str) -> str:
        return self._base.with_suffix(f".{stream}").read_text(encoding="utf-8")


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


class Lab:
    """Starts commands in a folder of the test's own; runs lie in `runs`."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder, self._started = server, folder, 0
        self.cwd = folder / "cwd"
        self.runs = self.cwd / "runs"
        self.cwd.mkdir()

    def start(self, *words: str, **hooks: Any) -> Running:
        """A forked process of `distill WORDS`; for the hooks see `child_hooks.py`."""
        self._started += 1
        base = self._folder / f"process{self._started}"
        running = {"out": f"{base}.out", "err": f"{base}.err", "report": f"{base}.report", "cwd": str(self.cwd)}
        answer = self._server.ask(do="start", argv=list(words), hooks=hooks, **running)
        return Running(self._server, answer["pid"], base)

    def run(self, *words: str, **hooks: Any) -> Ended:
        return self.start(*words, **hooks).end()

    def real(self, *words: str) -> "subprocess.Popen[str]":
        """`python -m distill WORDS`, as a user starts it."""
        command = [sys.executable, "-m", "distill", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.cwd, env=environment(), stdout=pipe, stderr=pipe, text=True)

    def folder(self, head: str) -> Path:
        """The one run whose folder's name begins with `head`."""
        (path,) = self.runs.glob(f"{head}*")
        return path

    def kill_all(self) -> None:
        self._server.ask(do="end")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests of processes."""
    started = Server()
    yield started
    started.close()


@pytest.fixture
def lab(server: Server, tmp_path: Path) -> Iterator[Lab]:
    """Commands in an empty folder."""
    made = Lab(server, tmp_path)
    yield made
    made.kill_all()


EXACT = ("student.safetensors", "metrics.jsonl")


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and bytes of every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def timeless(result: bytes) -> dict[str, Any]:
    """`result.json` without what the clock decides."""
    facts: dict[str, Any] = json.loads(result)
    return {key: value for key, value in facts.items() if key not in ("finished", "seconds")}
