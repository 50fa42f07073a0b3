"""Run identity: the canonical form of what can change a run's numbers, and its digest."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

NUMERICS_VERSION = 1
"""Raised by one whenever a change of code alters the results of an unchanged config.

It is part of every identity, so older runs stay in the store under their old ids and are never mistaken for
new ones.
"""

_SIGNIFICANT_DIGITS = 12
_ID_CHARACTERS = 12
_UNCHANGED = {str, int, bool, type(None)}


def canonical(value: object) -> Json:
    """The one JSON form: keys sorted, tuples as lists, floats to 12 significant digits, -0.0 as 0.0.

    Types count as given: `1`, `1.0` and `True` stay three different values (casting to the declared type is
    the caller's work). Raises ValueError, naming the key, for a non-finite float, a key that is no string,
    and anything that is not plain data.
    """
    return _canonical(value, "identity")


def run_id(identity: Mapping[str, object]) -> str:
    """The first 12 hexadecimal characters of the sha256 of the compact canonical JSON of `identity`."""
    text = json.dumps(canonical(identity), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_ID_CHARACTERS]


def _canonical(value: object, where: str) -> Json:
    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return _canonical_float(float(value), where)
        case dict():  # before Mapping, an abstract class, whose test is slow
            return _canonical_mapping(value, where)
        case list() | tuple():
            return [_canonical(item, f"{where}[{number}]") for number, item in enumerate(value)]
        case Mapping():
            return _canonical_mapping(value, where)
    raise ValueError(
        f"{where} must be plain data (null, bool, int, float, str, list or mapping), "
        f"got {type(value).__name__}: convert it before the run id is made"
    )


def _canonical_float(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{where} must be a finite number, got {value}: give a number that is neither nan nor inf")
    # 12 digits remove rounding noise (0.1 + 0.2) and keep any number that a person types; adding 0.0 turns -0.0
    # into 0.0. json prints repr, the shortest digits that read back, which are the same on every platform.
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") + 0.0


def _canonical_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Json]:
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"every key of {where} must be a string, got {key!r}: write it in quotes")
    names = sorted(str.__str__(key) for key in value if isinstance(key, str))
    return {
        # most values are left as they are: tables read thousands of identities
        name: item if type(item := value[name]) in _UNCHANGED else _canonical(item, f"{where}.{name}")
        for name in names
    }
