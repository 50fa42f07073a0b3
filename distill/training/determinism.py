"""Whether equal input gives equal bits on one machine, or torch may choose the fastest algorithm each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # one of the two values with which cuBLAS repeats itself


@contextmanager
def determinism(wanted: bool, device: torch.device) -> Iterator[None]:
    """Set torch up for the block and restore it afterwards.

    Wanted: deterministic algorithms everywhere; an operation that has none raises RuntimeError. cuBLAS reads its
    variable when the process first uses it, so only the first block of a process can set that.
    Otherwise, on CUDA: cuDNN tries its algorithms for each new shape and keeps the fastest.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, os.environ.get(CUBLAS)
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if wanted:
        os.environ.setdefault(CUBLAS, WORKSPACE)
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
    elif device.type == "cuda":
        cudnn.benchmark = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        cudnn.deterministic, cudnn.benchmark = before[:2]
        if before[2] is None:
            os.environ.pop(CUBLAS, None)
