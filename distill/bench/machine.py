"""What a bench was run on: processor, flags, clock, load, versions."""

import os
import time
from pathlib import Path
from typing import Any

import torch

import distill
from distill.runs.provenance import collect

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine(device: torch.device, *, timer: str) -> dict[str, Any]:
    """Facts that hold for the whole bench: commit, versions, device, threads, instruction sets, the timer's name."""
    flags = set(_values("flags")[0].split()) if _values("flags") else set()
    return {
        **collect(device),
        "distill": distill.__version__,
        "flags": {flag: flag in flags for flag in FLAGS},
        "cores": os.cpu_count(),
        "timer": timer,
    }


def moment() -> dict[str, Any]:
    """What changes meanwhile: the time, the load average of the last minute, the processor's clock in MHz."""
    clocks = [float(value) for value in _values("cpu MHz")]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg()[0],
        "clock_mhz": max(clocks, default=None),
    }


def _values(name: str) -> list[str]:
    """Those of /proc/cpuinfo, one a core; none where the system has no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name]
