"""Number formats: `fp32`, `bf16` (autocast around fp32 weights), and what `auto` means on this machine."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

PRECISIONS = ("fp32", "bf16", "auto")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the hardware multiplies it natively, else fp32.

    A CPU without native bf16 runs it up to ten times slower than fp32, so the processor's flags decide, not a
    timing: the answer is part of the run id and must not depend on load.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_multiplies_bf16() else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which networks run; losses are computed outside it, in fp32."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _cpu_multiplies_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False  # no Linux: unknown, and fp32 is never wrong
    return "amx_bf16" in flags or "avx512_bf16" in flags
