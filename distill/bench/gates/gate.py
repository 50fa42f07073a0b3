"""A gate: an equality that a figure stands behind, and what it was found to be in this run."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """`says` is a sentence with the numbers, `values` the numbers themselves."""

    name: str
    passed: bool
    says: str
    values: Mapping[str, float]


def within(name: str, limits: Mapping[str, tuple[float, float]], *, what: str, besides: str = "") -> Gate:
    """A gate that passes where every value is finite and at most its limit: {what it is: (value, limit)}."""
    limits = {text: (float(value), float(limit)) for text, (value, limit) in limits.items()}
    passed = all(value <= limit for value, limit in limits.values())  # nan is not
    told = ", ".join(f"{_number(value)} {text} (limit {_number(limit)})" for text, (value, limit) in limits.items())
    return Gate(name, passed, f"{what}: {told}{besides}", {text: value for text, (value, _) in limits.items()})


def _number(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.1e}"
