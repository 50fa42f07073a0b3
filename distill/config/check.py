"""Every fault of a configuration at once, each as one sentence."""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any, Final, get_args, get_type_hints

from distill.config.cast import Mismatch, cast
from distill.config.schema import Target
from distill.config.targets import RESERVED, UnknownTarget, resolve, signature

MISSING = "???"
# stands for a value whose interpolation failed: the fault has been told already
UNRESOLVED: Final = object()


def nearest(word: str, known: Collection[str]) -> str:
    """`": did you mean 'kd'?"`, or the names there are where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]!r}?"
    return f": there are {', '.join(sorted(known))}" if known else ""


def check_typed(node: Mapping[str, Any], schema: type, path: str, faults: list[str]) -> dict[str, Any]:
    """Check a node against a dataclass; returns it with its values cast."""
    hints = get_type_hints(schema)
    optional = {
        f.name
        for f in dataclasses.fields(schema)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    faults += [f"{_join(path, key)} is not a key{nearest(key, hints)}" for key in node if key not in hints]
    faults += [f"{_join(path, key)} is missing" for key in hints if key not in node and key not in optional]
    checked: dict[str, Any] = {}
    for key, value in node.items():
        if key not in hints or (value == MISSING and key in optional):
            continue
        where, hint = _join(path, key), hints[key]
        node_type = next((each for each in (hint, *get_args(hint)) if _has_keys(each)), None)
        if node_type is None or (value is None and node_type is not hint):
            checked[key] = check_value(value, hint, where, faults)
        elif not isinstance(value, Mapping):
            faults.append(f"{where} must be a node with keys of its own, got {value!r}: set {where}.KEY=VALUE")
        elif node_type is Target:
            checked[key] = check_target(value, where, faults)
        else:
            checked[key] = check_typed(value, node_type, where, faults)
    return checked


def check_target(node: Mapping[str, Any], path: str, faults: list[str]) -> dict[str, Any]:
    """Check a `_target_` node against the signature of what it names; returns it with its values cast."""
    if node.get("_target_", MISSING) == MISSING:
        faults.append(f"{path} names nothing to build: choose an option of its group, or set {path}._target_")
        return dict(node)
    try:
        takes = signature(resolve(str(node["_target_"])))
    except UnknownTarget as error:
        faults.append(f"{path}._target_ {error}")
        return dict(node)
    known = set(takes.annotations) | set(RESERVED)
    checked: dict[str, Any] = {}
    for key, value in node.items():
        where = _join(path, key)
        if key not in known and not takes.open_ended:
            faults.append(f"{where} is not a key of {node['_target_']}{nearest(key, takes.annotations)}")
        elif isinstance(value, Mapping) and "_target_" in value:
            faults += [
                f"{where}.{twice} is what {path}.{twice} says: set that one"
                for twice in value
                if twice in takes.annotations
            ]
            checked[key] = check_target(value, where, faults)
        elif isinstance(value, Mapping) and any(_is_node(part) for part in value.values()):
            checked[key] = {name: _check_part(part, _join(where, name), faults) for name, part in value.items()}
        elif key in RESERVED:
            checked[key] = value
        else:
            checked[key] = check_value(value, takes.annotations.get(key, inspect.Parameter.empty), where, faults)
    if not node.get("_partial_"):
        missing = sorted(takes.required - set(node))
        faults += [f"{_join(path, key)} is missing: {node['_target_']} needs it" for key in missing]
    return checked


def check_value(value: Any, annotation: Any, path: str, faults: list[str]) -> Any:
    """Cast one value; a fault names the value and what was expected."""
    if value is UNRESOLVED:
        return value
    if value == MISSING:
        faults.append(f"{path} has no value yet: set {path}=VALUE")
        return value
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(f"{path} must be finite, got {value}: set {path} to a number")
        return value
    if annotation is inspect.Parameter.empty:
        return value
    try:
        return cast(value, annotation)
    except Mismatch as expected:
        faults.append(f"{path} must be {expected}, got {value!r}")
        return value


def _has_keys(hint: Any) -> bool:
    """Whether values of this type are nodes: it is a dataclass, or typed by a `_target_`."""
    return hint is Target or dataclasses.is_dataclass(hint)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _check_part(value: Any, path: str, faults: list[str]) -> Any:
    """A member of a mapping of nodes, such as the parts of a mixture."""
    if _is_node(value):
        return check_target(value, path, faults)
    faults.append(f"{path} must be a node with a _target_, got {value!r}: add one, e.g. +loss@{path}=kd")
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)
