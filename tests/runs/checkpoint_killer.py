"""Saves checkpoints in child processes and kills them; prints what it found as one JSON line.

A program of its own, so that it forks without threads and imports torch once.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill.runs.checkpoint import load_checkpoint, save_checkpoint
from distill.runs.directory import Board
from distill.runs.files import StorageError, append_line, remove_leftovers
from distill.runs.layout import LAST

KILLS = 25


def save(folder: Path, number: int, size: int = 50_000) -> None:
    tensors = {name: torch.full((size,), float(number)) for name in "abc"}
    save_checkpoint(folder, tensors, {"generation": number})


def loaded_generation(folder: Path) -> int:
    """The number every tensor and the state agree on; AssertionError when the checkpoint is a mixture."""
    loaded = load_checkpoint(folder)
    if loaded is None:
        return 0
    number = loaded.state["generation"]
    assert loaded.note is None
    assert sorted(loaded.tensors) == ["a", "b", "c"]
    assert all(bool((tensor == number).all()) for tensor in loaded.tensors.values())
    return int(number)


def save_until_killed(folder: Path, first: int, pipe: int) -> None:
    for number in range(first, 1 << 31):
        save(folder, number)
        os.write(pipe, number.to_bytes(4, "little"))


def kill_one(folder: Path, draw: random.Random) -> dict[str, Any]:
    before = loaded_generation(folder)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        save_until_killed(folder, before + 1, writer)
    os.close(writer)
    acknowledged = os.read(reader, 4)
    missing = 0
    end = time.monotonic() + draw.uniform(0, 0.03)
    while time.monotonic() < end:
        missing += not (folder / LAST).exists()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 4):
        acknowledged = more
    os.close(reader)
    leftovers = len(list(folder.glob(".*.tmp")))
    after = loaded_generation(folder)
    assert after >= int.from_bytes(acknowledged, "little"), "a checkpoint that was saved is lost"
    remove_leftovers(folder)
    return {"missing": missing, "inside": leftovers > 0, "saves": after - before}


def trouble_at_a_limit(folder: Path) -> dict[str, Any]:
    """What a child says when its files may not grow beyond 100 kB."""
    save(folder, 1, size=100)
    save(folder, 2, size=100)
    first = append_line(folder / "metrics.jsonl", {"epoch": 1, "padding": "x" * 90_000})
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        told = []
        long_line = {"epoch": 2, "padding": "x" * 90_000}
        attempts: list[Callable[[], object]] = [
            lambda: save(folder, 3),
            lambda: append_line(folder / "metrics.jsonl", long_line),
        ]
        for write in attempts:
            try:
                write()
            except StorageError as error:
                told.append(str(error))
        board = Board(folder)
        for step in range(3):
            board.scalars({"x" * 60_000: 1.0}, step=step)
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    told = json.loads(os.read(reader, 1 << 16) or b"null")
    os.waitpid(child, 0)
    left = sorted(path.name for path in folder.iterdir())
    last = loaded_generation(folder)
    (folder / LAST).unlink()
    previous = load_checkpoint(folder)
    return {
        "told": told,
        "left": left,
        "log_kept": (folder / "metrics.jsonl").read_bytes() == first,
        "last": last,
        "previous": previous and previous.state["generation"],
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    (folder / "kills").mkdir()
    (folder / "limit").mkdir()
    draw = random.Random(0)
    kills = [kill_one(folder / "kills", draw) for _ in range(KILLS)]
    print(json.dumps({"kills": kills, "limit": trouble_at_a_limit(folder / "limit")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
