"""Number formats: `fp32`, `bf16` (autocast around fp32 weights), and what `auto` means on this machine."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

PRECISIONS = ("fp32", "bf16", "auto")
NATIVE_BF16 = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply it
LEAST_CAPABILITY = (8, 0)  # of GPUs that do


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` becomes bf16 where the hardware multiplies it natively, else fp32.

    A CPU without native bf16 runs it up to ten times slower than fp32, so the processor's flags decide, not a
    timing: the answer is part of the run id and must not depend on load.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return probe(device)[0] if precision == "auto" else precision


def probe(device: torch.device) -> tuple[str, str]:
    """The format for `auto` on this device, and in a few words what speaks for it."""
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
