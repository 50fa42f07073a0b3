"""Values of a configuration brought to the type their owner declares."""

import collections.abc
import types
import typing
from typing import Any

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


class Mismatch(Exception):
    """The value does not fit the declared type; the text says what was expected."""


def cast(value: Any, annotation: Any) -> Any:
    """`value` as `annotation` would have it: 2 becomes 2.0 for a float, a list a tuple.

    Types a YAML file cannot hold (tensors, modules) are passed over; what has no annotation is left alone.

    Raises:
        Mismatch: saying what was expected.
    """
    origin = typing.get_origin(annotation)
    if annotation in _WORDS:
        return _scalar(value, annotation)
    if annotation is None or annotation is types.NoneType:
        if value is None:
            return None
        raise Mismatch("null")
    if origin in (typing.Union, types.UnionType):
        return _first_fit(value, typing.get_args(annotation))
    if origin is typing.Literal:
        choices = typing.get_args(annotation)
        if value in choices:
            return value
        raise Mismatch("one of " + ", ".join(map(str, choices)))
    if origin in (tuple, list, collections.abc.Sequence):
        return _sequence(value, origin, typing.get_args(annotation))
    if origin is dict or annotation is dict:
        if not isinstance(value, dict):
            raise Mismatch("a mapping")
        return _mapping(value, typing.get_args(annotation))
    if origin is collections.abc.Callable or annotation in (collections.abc.Callable, typing.Callable):
        if isinstance(value, dict) and "_target_" in value:
            return value
        raise Mismatch("a function, written as {_target_: ..., _partial_: true}")
    return value


def _scalar(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise Mismatch(_WORDS[kind])
    return value


def _first_fit(value: Any, members: tuple[Any, ...]) -> Any:
    expected = []
    # the exact type first, so that `int | float` keeps an integer
    for member in sorted(members, key=lambda m: type(value) is not m):
        if not _expressible(member):
            continue
        try:
            return cast(value, member)
        except Mismatch as mismatch:
            expected.append(str(mismatch))
    raise Mismatch(" or ".join(dict.fromkeys(expected)))


def _expressible(annotation: Any) -> bool:
    known = (*_WORDS, None, types.NoneType)
    return annotation in known or typing.get_origin(annotation) is not None


def _mapping(value: dict[Any, Any], inner: tuple[Any, ...]) -> dict[Any, Any]:
    if not inner:
        return value
    try:
        return {key: cast(item, inner[1]) for key, item in value.items()}
    except Mismatch as mismatch:
        raise Mismatch(f"a mapping with {mismatch} at every key") from None


def _sequence(value: Any, origin: type, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        raise Mismatch("a list")
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise Mismatch(f"a list of {len(inner)} values")
        return tuple(cast(v, a) for v, a in zip(value, inner, strict=True))
    try:
        items = [cast(v, inner[0]) for v in value] if inner else list(value)
    except Mismatch as mismatch:
        raise Mismatch(f"a list with {mismatch} at every place") from None
    return tuple(items) if origin is tuple else items
