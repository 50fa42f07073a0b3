"""Where tests marked `gpu` compute: on CUDA, or on the CPU with stand-ins, which rehearses the tests themselves.

`DISTILL_TEST_STAND_IN=1 pytest -m gpu` runs them on a machine without a GPU; else they are skipped there.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tape_lane import HOST_READS, TapeLane
from torch.utils._python_dispatch import TorchDispatchMode

from distill.training import CudaLane, Lane

REHEARSAL = "DISTILL_TEST_STAND_IN"
IS_CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda", torch.cuda.current_device()) if IS_CUDA else torch.device("cpu")


def missing() -> str | None:
    """Why tests marked `gpu` cannot run here; None where they can."""
    return None if IS_CUDA or os.environ.get(REHEARSAL) else "needs a CUDA device"


def new_lane() -> Lane:
    """A lane on `DEVICE`."""
    return CudaLane(DEVICE) if IS_CUDA else TapeLane([])


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """An operation in the block that waits for the device raises RuntimeError; afterwards the mode is what it was.

    torch warns, once in a process, that this mode is a prototype; the tests would turn that into an error.
    """
    if DEVICE.type != "cuda":
        with HostReadsRaise():
            yield
        return
    before = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class HostReadsRaise(TorchDispatchMode):
    """The stand-in for that mode."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in HOST_READS:
            raise RuntimeError(f"called a synchronizing operation: {func._schema.name}")
        return func(*args, **(kwargs or {}))
