"""Two processes that share every batch of a KD step: ours against torch's DistributedDataParallel, both by gloo.

python -m scripts.bench.processes SETTINGS      one of the two; `two_processes` starts them
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import lru_cache
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from distill.data import ImageDataset
from distill.training import fit, this_world
from scripts.bench.gates import EXACT, FEW_STEPS, Gate, Losses, apart, within
from scripts.bench.lab import Lab, Settings, Sizes, plan_pair
from scripts.bench.measure import Figure, Variant, measure
from scripts.bench.peer import train_loader
from scripts.bench.rows import Note, Row, of_steps

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
GATE = "two processes"


def two_processes(lab: Lab, note: Note) -> list[Figure]:
    """A step of KD in two processes, in wall seconds: what they wait for each other counts."""
    if lab.device.type != "cpu":
        note("row processes is left out: it measures two processes on a CPU")
        return []
    found = together(lab)
    label = f"KD step in {PROCESSES} processes, wall time, against DistributedDataParallel"
    peer = tuple(found["peer"])
    # DistributedDataParallel normalises in each process; ours does too with recipe.batch_norm=local
    return [
        Figure(
            "processes.live", f"{label}: BatchNorm of the whole batch", "step", (GATE,), tuple(found["whole"]), peer
        ),
        Figure("processes.local", f"{label}: BatchNorm in each process", "step", (GATE,), tuple(found["local"]), peer),
    ]


def equal_losses(lab: Lab) -> Gate:
    """The losses of two processes are those of one."""
    what = f"loss of {FEW_STEPS} KD steps in {PROCESSES} processes, largest difference from one process's"
    return within(GATE, {"relative": (together(lab)["apart"], EXACT)}, what=what)


@lru_cache(maxsize=1)
def together(lab: Lab) -> dict[str, Any]:
    """What the two processes found: seconds a step by round, and how far the losses are apart.

    Raises RuntimeError with what they printed where one fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": PROCESSES, "LOCAL_WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-m", "scripts.bench.processes", json.dumps(asdict(lab.settings))]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **{k: str(v) for k, v in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]
    try:
        said = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        raise RuntimeError("\n".join(said))
    found: dict[str, Any] = json.loads(said[0].splitlines()[-1])
    return found


def measured(settings: Settings) -> dict[str, Any]:
    """The work of each process."""
    world = this_world()
    torch.set_num_threads(1)
    lab = Lab(plan_pair(settings), settings)
    steps, data = settings.sizes.steps, lab.steps(settings.sizes.steps)

    def losses(**options: Any) -> list[float]:
        few = lab.steps(FEW_STEPS)
        watch = Losses()
        member = lab.member(few, lab.live(), **options)
        fit([member], watch=watch, stop_requested=lambda: len(watch.values) >= FEW_STEPS, engine=lab.engine())
        return watch.values

    peer = lab.peer()
    peer.student = DistributedDataParallel(peer.student)
    assert isinstance(data, ImageDataset)
    loader = train_loader(data, batch_size=lab.batch_size // world.size, workers=settings.sizes.workers)
    endless = chain.from_iterable(repeat(loader))

    def clock(run: Callable[[], object]) -> float:
        distributed.barrier()
        start = time.perf_counter()
        run()
        distributed.barrier()
        return time.perf_counter() - start

    with ExitStack() as stack:
        ours = [
            of_steps(
                name, [lab.member(data, lab.live(), world=replace(world, local_norm=local))], steps, stack, lab=lab
            )
            for name, local in (("whole", False), ("local", True))
        ]
        theirs = Variant("peer", steps, lambda: peer.train(endless, steps))
        sizes = settings.sizes
        costs = measure([theirs, *ours], rounds=sizes.rounds, warm_up=max(1, sizes.warm_up), clock=clock)
    return {**costs, "apart": apart(losses(world=world), losses())}


ROWS: dict[str, Row] = {"processes": two_processes}
GATES: dict[str, Callable[[Lab], Gate]] = {GATE: equal_losses}

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(measured(Settings(**{**given, "sizes": Sizes(**given["sizes"])}))))
