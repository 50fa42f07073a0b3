"""What a piece of work costs: CPU time of the process and its children, or time on the GPU."""

import resource
import time
from collections.abc import Callable

import torch

Clock = Callable[[Callable[[], object]], float]


def clock_of(device: torch.device) -> Clock:
    """The seconds that a call costs on `device`."""
    return on_gpu if device.type == "cuda" else on_cpu


def on_cpu(run: Callable[[], object]) -> float:
    """CPU seconds, user and system: other processes lengthen the wall time, but hardly this."""
    start = _spent()
    run()
    return _spent() - start


def on_gpu(run: Callable[[], object]) -> float:
    """Seconds between two events on the device; the second waits for every stream, not for the current one alone."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    run()
    torch.cuda.synchronize()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def name_of(device: torch.device) -> str:
    """Which clock `clock_of` gives, in words."""
    return "CUDA events" if device.type == "cuda" else "process CPU time, children included"


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
