"""Commands as real processes in a folder of a test's own; the tests' side of `fork_server.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import distill

HERE = Path(__file__).parent
ROOT = Path(next(iter(distill.__path__))).parent
PATIENCE = 300.0  # seconds; far more than anything here takes, also on a machine that others share

STEPS = 4  # an epoch of DATA: three batches of 16 and one of 12
DATA = (
    "dataset=synthetic",
    "dataset.classes=4",
    "dataset.train_size=60",
    "dataset.test_size=40",
    "dataset.image_size=8",
    "recipe.batch_size=16",
    "teacher.recipe.batch_size=16",
)
TINY = ("train", *DATA, "student._target_=tiny_student.Tiny", "recipe.epochs=3")
BASELINE = (*TINY, "loss=ce", "seed=1")  # the run of the fixture `reference`
TINY_TEACHER = ("teacher.network._target_=tiny_student.Tiny", "teacher.recipe.epochs=3")
DISTILLED = (*TINY, *TINY_TEACHER, "loss=kd")


@dataclass(frozen=True)
class Ended:
    """A process that has ended: exit code (negative: the signal), and what it said."""

    code: int
    out: str
    err: str

    @property
    def traceless(self) -> bool:
        return "Traceback" not in self.out + self.err


def environment() -> dict[str, str]:
    """The environment of every process: this checkout, the tests' own student, one thread."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}


class Server:
    """The other end of `fork_server.py`."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "error", str(HERE / "fork_server.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, env=environment(), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        assert self._read() == {"ready": True}

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and return its answer."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Kill what is left and end."""
        self.ask(do="kill all")
        self._process.communicate(timeout=PATIENCE)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("{"):
            raise AssertionError(f"the fork server has died: {line}{self._process.communicate()[0]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Running:
    """A process at work."""

    def __init__(self, server: Server, pid: int, base: str) -> None:
        self._server, self.pid, self._base = server, pid, base
        self.report = Path(f"{base}.report")

    def says(self, text: str) -> None:
        """Return as soon as the process has printed `text`."""
        self._until(lambda: text in self._read("out"), f"{text!r} on the screen")

    def reaches_step(self) -> bool:
        """Return as soon as the process stands at its gate or has done its first step; False when it ended instead."""
        self._until(lambda: self.report.exists() or self._code(0) is not None, "a step")
        return self.report.exists()

    def passes(self) -> None:
        """Open the gate."""
        self.report.unlink()

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def has_pending(self, number: int) -> bool:
        """Whether a signal has been sent and not been delivered yet."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
        return any(mask >> (number - 1) & 1 for mask in masks)

    def end(self) -> Ended:
        """Wait for the end."""
        code = self._code(PATIENCE)
        assert code is not None, f"process {self.pid} does not end: {self._read('out')}{self._read('err')}"
        return Ended(code, self._read("out"), self._read("err"))

    def kill(self) -> Ended:
        """SIGKILL, and wait."""
        if self._code(0) is None:
            self.signal(signal.SIGKILL)
        return self.end()

    def _code(self, seconds: float) -> int | None:
        code: int | None = self._server.ask(do="wait", pid=self.pid, seconds=seconds)["code"]
        return code

    def _read(self, stream: str) -> str:
        return Path(f"{self._base}.{stream}").read_text(encoding="utf-8")

    def _until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"waited in vain for {what}: {self._read('out')}{self._read('err')}"
            time.sleep(0.005)


class Lab:
    """Starts commands in a folder; their runs lie in `runs`."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder, self._started = server, folder, 0
        self._real: list[subprocess.Popen[str]] = []
        self.cwd = folder / "cwd"
        self.runs = self.cwd / "runs"
        self.cwd.mkdir()

    def start(self, *words: str, **hooks: Any) -> Running:
        """`distill WORDS` in a process of its own; for the hooks see `child_hooks.py`."""
        self._started += 1
        base = str(self._folder / f"process{self._started}")
        files = {"out": f"{base}.out", "err": f"{base}.err", "report": f"{base}.report"}
        for name in ("out", "err"):
            Path(files[name]).touch()
        pid = self._server.ask(do="start", argv=list(words), hooks=hooks, cwd=str(self.cwd), **files)["pid"]
        return Running(self._server, pid, base)

    def run(self, *words: str, **hooks: Any) -> Ended:
        """Start, and wait for the end."""
        return self.start(*words, **hooks).end()

    def world(self, *words: str, each: Sequence[dict[str, Any]] = ({}, {}), **hooks: Any) -> list[Running]:
        """`distill WORDS` by several processes together, as torchrun starts them; `each` are the hooks of each."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        size = len(each)
        count = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = [{"RANK": rank, "LOCAL_RANK": rank, **count} for rank in range(size)]
        return [
            self.start(*words, world={name: str(value) for name, value in own.items()}, **hooks, **more)
            for own, more in zip(variables, each, strict=True)
        ]

    def real(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        """`python -m distill WORDS`, as a user starts it."""
        command, pipe = [sys.executable, "-m", "distill", *words], subprocess.PIPE
        variables = {**environment(), **variables}
        process = subprocess.Popen(command, cwd=self.cwd, env=variables, stdout=pipe, stderr=pipe, text=True)
        self._real.append(process)
        return process

    def run_of(self, head: str) -> Path:
        """The one run whose folder's name begins with `head`."""
        (path,) = self.runs.glob(f"{head}*")
        return path

    def kill_all(self) -> None:
        """Leave no process behind."""
        self._server.ask(do="kill all")
        for process in self._real:
            if process.poll() is None:
                process.kill()
                process.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a run; events, of which each session leaves a file, left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("events.")}


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and bytes of every file below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def assert_equal_runs(run: Path, uninterrupted: Path) -> None:
    """The same numbers to the last byte, and the same files: no checkpoint, no temporary file."""
    mine, other = contents(run), contents(uninterrupted)
    assert mine["metrics.jsonl"] == other["metrics.jsonl"]
    assert mine["student.safetensors"] == other["student.safetensors"]
    assert timeless(mine["result.json"]) == timeless(other["result.json"])
    assert sorted(mine) == sorted(other.keys() - {"evaluations.json"} | mine.keys() & {"evaluations.json"})
    assert not {"last.safetensors", "previous.safetensors", "failed.json"} & mine.keys()
    assert not [name for name in mine if name.endswith(".tmp")]


def timeless(result: bytes) -> dict[str, Any]:
    """`result.json` without what the clock decides."""
    facts: dict[str, Any] = json.loads(result)
    return {
        key: value
        for key, value in facts.items()
        if key not in ("finished", "seconds", "peak_memory_bytes", "side_by_side", "seal")
    }
