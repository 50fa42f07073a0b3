"""Range checks for constructors: every fault is one sentence, and all of them are reported together."""

from __future__ import annotations

import math
from collections.abc import Iterable


def refuse(faults: Iterable[str]) -> None:
    """Raise ValueError with all faults, one per line, if there are any."""
    lines = list(faults)
    if lines:
        raise ValueError("\n".join(lines))


def temperature_faults(temperature: float) -> list[str]:
    """A sentence unless `temperature` is finite and > 0."""
    if 0 < temperature < math.inf:
        return []
    rule = "finite" if temperature == math.inf else "> 0"
    return [f"temperature must be {rule}, got {temperature}: set loss.temperature to a positive number"]


def weight_faults(**weights: float) -> list[str]:
    """A sentence for every weight that is not finite and >= 0, and one if all weights are 0."""
    faults = []
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            rule = "finite" if value == math.inf else ">= 0"
            faults.append(f"{name} must be {rule}, got {value}: set loss.{name} to zero or a positive number")
    if not any(weights.values()):
        names = " and ".join(weights)
        rule = "be 0" if len(weights) == 1 else "both be 0" if len(weights) == 2 else "all be 0"
        keys = " or ".join(f"loss.{name}" for name in weights)
        faults.append(f"{names} must not {rule}: set {keys} to a positive number")
    return faults
