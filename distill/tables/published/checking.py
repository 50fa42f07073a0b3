"""Whether the values in a table's file are what their keys stand for."""

import math
from collections.abc import Mapping
from typing import Any

TEXTS = {"title", "source", "dataset", "recipe", "teacher_recipe", "label", "experiment", "teacher", "student"}
TEXTS |= {"preset", "epochs", "untrainable"}
# inclusive
RANGES = {
    "teacher_accuracy": (0.0, 100.0),
    "student_accuracy": (0.0, 100.0),
    "learning_rate": (0.0, math.inf),
    "temperature": (0.0, math.inf),
    "deviation": (0.0, 100.0),
}


def check_names(nodes: Any, what: str) -> None:
    """Rows, or columns: a mapping that has some, under names. Raises ValueError."""
    if not isinstance(nodes, Mapping) or not nodes:
        raise ValueError(f"{what}s must be a mapping with at least one {what}, got {nodes!r}")
    for key in nodes:
        if not isinstance(key, str):
            raise ValueError(f"{what} {key!r} is no name: put it in quotes")


def check_values(node: Mapping[str, Any], where: str) -> None:
    """The values that `node` has; null says the same as leaving a key out.

    Raises:
        ValueError: one is of another kind, or out of range; the sentence names key, place and value.
    """
    for key, value in node.items():
        told = f"{key} of {where}"
        if value is None:
            continue
        if key in TEXTS and not isinstance(value, str):
            raise ValueError(f"{told} must be text, got {value!r}: put it in quotes")
        if key in RANGES:
            _check_number(value, told, *RANGES[key])
        elif key == "runs" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{told} must be a whole number from 1 on, got {value!r}: leave it out if nobody says")
        elif key in ("published", "top5"):
            _check_accuracies(value, told)
        elif key == "weights":
            _check_weights(value, told)
        elif key in ("overrides", "note"):
            _check_texts(value, told, pairs=key == "overrides")
        elif key == "cells" and not isinstance(value, Mapping):
            raise ValueError(f"{told} must be a mapping by column, got {value!r}")


def _check_number(value: Any, told: str, low: float, high: float) -> None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not known or not low <= value <= high:
        between = "from 0 on" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{told} must be a number {between}, got {value!r}")


def _check_accuracies(values: Any, told: str) -> None:
    if not isinstance(values, list):
        raise ValueError(f"{told} must be a list with a value (or null) for each column, got {values!r}")
    for value in values:
        if value is not None:
            _check_number(value, told, 0.0, 100.0)


def _check_weights(values: Any, told: str) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{told} must be a mapping of names to numbers, got {values!r}")
    for key, value in values.items():
        _check_number(value, f"{told}, {key},", 0.0, math.inf)


def _check_texts(values: Any, told: str, *, pairs: bool) -> None:
    if pairs and not (isinstance(values, list) and all(isinstance(each, str) and "=" in each for each in values)):
        raise ValueError(f"{told} must be a list of KEY=VALUE, got {values!r}")
    sentences = values if isinstance(values, list) else [values]
    if not all(isinstance(each, str) for each in sentences):
        raise ValueError(f"{told} must be a sentence or a list of them, got {values!r}: put it in quotes")
