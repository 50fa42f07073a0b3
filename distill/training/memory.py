"""How much memory training takes: the accelerator's where there is one, else the process's own."""

from contextlib import suppress
from pathlib import Path

import torch

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
    """Bytes at the highest point since `forget_peak`: allocated on the device, else resident in the whole process
    (images, libraries and other members of a cohort included). None where the system does not tell.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, ValueError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
