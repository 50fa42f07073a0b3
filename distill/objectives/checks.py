"""Ranges of an objective's numbers, checked by constructors, in sentences."""

import math


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless `temperature` is finite and > 0."""
    if not 0 < temperature < math.inf:
        rule = "finite" if temperature == math.inf else "> 0"
        raise ValueError(
            f"temperature must be {rule}, got {temperature}: set loss.temperature to a positive number"
        )


def check_weights(**weights: float) -> None:
    """Raise ValueError unless every weight is finite and >= 0 and at least one is > 0."""
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            rule = "finite" if value == math.inf else ">= 0"
            raise ValueError(
                f"{name} must be {rule}, got {value}: set loss.{name} to zero or a positive number"
            )
    if not any(weights.values()):
        names = " and ".join(weights)
        rule = "be 0" if len(weights) == 1 else "both be 0" if len(weights) == 2 else "all be 0"
        keys = " or ".join(f"loss.{name}" for name in weights)
        raise ValueError(f"{names} must not {rule}: set {keys} to a positive number")
