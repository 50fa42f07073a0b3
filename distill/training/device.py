"""Device settings: precision, deterministic algorithms, peak memory."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

PRECISIONS = ("fp32", "bf16", "auto")
NATIVE_BF16 = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply it
LEAST_CAPABILITY = (8, 0)  # of GPUs that do


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the hardware multiplies it natively, else fp32.

    A CPU without native bf16 runs it up to ten times slower than fp32, so the processor's flags decide, not a
    timing: the result is part of the run id and must not depend on load.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return probe(device)[0] if precision == "auto" else precision


def probe(device: torch.device) -> tuple[str, str]:
    """The format for `auto` on this device, and the reason in a few words."""
    if device.type == "cuda":
        found = torch.cuda.get_device_capability(device)
        least = ".".join(map(str, LEAST_CAPABILITY))
        reason = f"compute capability {'.'.join(map(str, found))}, bf16 from {least} on"
        return ("bf16" if found >= LEAST_CAPABILITY else "fp32"), reason
    if device.type != "cpu":
        return "fp32", f"nothing is known of bf16 on {device.type}"
    flags = _processor_flags()
    native = [flag for flag in NATIVE_BF16 if flag in flags]
    if native:
        return "bf16", f"the processor has {' and '.join(native)}"
    return "fp32", f"the processor has neither {' nor '.join(NATIVE_BF16)}"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which networks run; losses are computed outside it, in fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _processor_flags() -> frozenset[str]:
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return frozenset()  # no Linux: unknown, and fp32 is never wrong


CUBLAS, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # one of the two values with which cuBLAS repeats itself


@contextmanager
def determinism(wanted: bool, device: torch.device) -> Iterator[None]:
    """Set torch up for the block and restore it afterwards.

    If wanted: deterministic algorithms everywhere; an operation that has none raises RuntimeError. cuBLAS reads its
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


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # proc(5): resets the peak resident set size


def forget_peak(device: torch.device) -> None:
    """Begin a new measurement; on a CPU where the system cannot, the peak stays that of the process so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            CLEAR.write_text(FORGET_PEAK)


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the highest point since `forget_peak`: on CUDA those that torch holds of the device's memory (a captured
    step keeps what it has freed), else those resident in the whole process (images, libraries and other members of a
    cohort included). None where the system does not report it.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    with suppress(OSError, ValueError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
