"""What of the engine node cannot be had on this machine, and what a run says of its format before it starts."""

from collections.abc import Mapping
from typing import Any

import torch

from distill.training import probe, why_not_compiled


def engine_faults(engine: Any, device: torch.device | None) -> list[str]:
    """A sentence for each key that `device` cannot honour."""
    if not isinstance(engine, Mapping) or device is None:
        return []
    faults = []
    if engine.get("capture") is True and device.type != "cuda":
        faults.append(
            f"engine.capture=true needs a CUDA device, this run computes on {device.type}: set engine.capture=auto"
        )
    lacking = why_not_compiled(device) if engine.get("compile") is True else None
    if lacking is not None:
        faults.append(f"engine.compile=true cannot be had here, {lacking}: install it, or set engine.compile=false")
    return faults


def precision_notes(asked: str, device: torch.device) -> tuple[str, ...]:
    """What `precision=auto` has become, and why; nothing where a format was named."""
    if asked != "auto":
        return ()
    precision, reason = probe(device)
    return (f"precision=auto is {precision}: {reason}",)
