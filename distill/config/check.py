"""Check values and nodes of a configuration against declared types and the signatures of their targets."""

import collections.abc
import dataclasses
import importlib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, get_args, get_type_hints

from distill.config.faults import Fault, Refused, correction, nearest
from distill.config.own_code import OWN_CODE, Unreadable, own_code
from distill.config.schema import Target
from distill.runs.target_names import current_name, digested_name

RESERVED = ("_target_", "_partial_")
# given at run time, never in a preset
PROVIDED = frozenset({"num_classes", "params"})


def resolve(path: str) -> Any:
    """The object behind a dotted path, today's or a former one of ours, importing its module.

    Raises:
        Refused: nothing callable of that name can be imported.
    """
    parts = current_name(path).split(".")
    reason = "it has no dots" if len(parts) < 2 else ""
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            reason = reason or str(error)
            continue
        except Exception as error:  # a module from anywhere, which may fail in its own way
            raise Refused([f"{path!r} cannot be imported: {type(error).__name__}: {error}"]) from error
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError as error:
            raise Refused([f"{path!r} cannot be imported: {error}"]) from error
        if not callable(found):
            raise Refused([f"{path!r} is not a class or function"])
        return found
    raise Refused([f"{path!r} cannot be imported: {reason}"])


def public_name(path: str) -> str:
    """The name that run ids hold for the object of `path`: the shortest path under which it is exported.

    `distill.models.resnet8`, for example. Moving code between private modules leaves it unchanged, and what has moved
    between packages keeps the name it had (`distill.runs.target_names`).
    """
    found = resolve(path)
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if module is None or name is None:
        return path
    parts = module.split(".")
    for cut in range(1, len(parts) + 1):
        package = importlib.import_module(".".join(parts[:cut]))
        if getattr(package, name, None) is found:
            return digested_name(".".join([*parts[:cut], name]))
    return path


@dataclass(frozen=True)
class Signature:
    """The keys of a target: annotations and defaults by name, which are required, and whether any other will do."""

    annotations: Mapping[str, Any]
    defaults: Mapping[str, Any]
    required: frozenset[str]
    open_ended: bool


def signature(target: Any) -> Signature:
    """The keyword parameters of a class or function."""
    return _signature(target) if isinstance(target, collections.abc.Hashable) else _signature.__wrapped__(target)


@lru_cache(maxsize=1000)
def _signature(target: Any) -> Signature:
    try:
        parameters = dict(inspect.signature(target).parameters)
    except (TypeError, ValueError):
        return Signature({}, {}, frozenset(), open_ended=True)
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        hints = {}
    named = {name: p for name, p in parameters.items() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    annotations = {name: hints.get(name, inspect.Parameter.empty) for name in named}
    defaults = {name: p.default for name, p in named.items() if p.default is not p.empty}
    return Signature(
        annotations,
        defaults,
        frozenset(named) - frozenset(defaults) - PROVIDED,
        any(p.kind is p.VAR_KEYWORD for p in parameters.values()),
    )


_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


class Mismatch(Exception):
    """The value does not fit the declared type; the text is what was expected."""


def cast(value: Any, annotation: Any) -> Any:
    """`value` converted to `annotation`: 2 becomes 2.0 for a float, a list becomes a tuple.

    A type that YAML cannot hold (a tensor, a module) is not checked, nor is a value without annotation.

    Raises:
        Mismatch: the type that was expected.
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
    # the exact type first: `int | float` must keep an integer
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


MISSING = "???"
# the group that gives each node its options, as a command names it
GROUPS = {name: name for name in ("dataset", "student", "loss", "recipe")}
GROUPS |= {
    f"teacher.{node}": f"{name}@teacher.{node}"
    for node, name in (("network", "student"), ("loss", "loss"), ("recipe", "recipe"))
}
MOST = 2**63 - 1  # the largest int64
# stands for a value whose interpolation failed; that fault has been recorded
UNRESOLVED: Final = object()


def check_typed(node: Mapping[str, Any], schema: type, path: str, faults: list[Fault]) -> dict[str, Any]:
    """Check a node against a dataclass; returns it with its values cast."""
    hints = get_type_hints(schema)
    optional = {
        f.name
        for f in dataclasses.fields(schema)
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    unknown, missing = (key for key in node if key not in hints), hints.keys() - node.keys() - optional
    faults += [Fault(at := _join(path, key), "key", f"{at} is not a key{nearest(key, hints)}") for key in unknown]
    faults += [Fault(at := _join(path, key), "missing", f"{at} is missing") for key in hints if key in missing]
    checked: dict[str, Any] = {}
    for key, value in node.items():
        if key not in hints or (value == MISSING and key in optional):
            continue
        where, hint = _join(path, key), hints[key]
        node_type = next((each for each in (hint, *get_args(hint)) if _has_keys(each)), None)
        if node_type is None or (value is None and node_type is not hint):
            checked[key] = check_value(value, hint, where, faults)
        elif not isinstance(value, Mapping):
            text = f"{where} is a group, got {value!r}: {_option(where)}set {where}.KEY=VALUE"
            faults.append(Fault(where, "type", text))
        elif node_type is Target:
            checked[key] = check_target(value, where, faults)
        else:
            checked[key] = check_typed(value, node_type, where, faults)
    return checked


def _option(path: str) -> str:
    """How a command chooses an option for a node, in front of another remedy; empty for nodes without a group."""
    return f"choose an option with {GROUPS[path]}=NAME, or " if path in GROUPS else ""


def check_target(node: Mapping[str, Any], path: str, faults: list[Fault], *, called: bool = False) -> dict[str, Any]:
    """Check a `_target_` node against the signature of what it names; returns it with its values cast.

    `called` says that the node stands for a function, which training calls.
    """
    if node.get("_target_", MISSING) == MISSING:
        text = f"{path} has no _target_, so it names no class: {_option(path)}set {path}._target_"
        faults.append(Fault(path, "missing", text))
        return dict(node)
    try:
        takes = signature(resolve(str(node["_target_"])))
        if own_code(str(node["_target_"])) and OWN_CODE in node:
            raise Refused([f"has an argument {OWN_CODE}, which is what run ids call the digest of its code: rename it"])
    except (Refused, Unreadable) as error:
        faults.append(Fault(f"{path}._target_", "value", f"{path}._target_ {error}"))
        return dict(node)
    known = set(takes.annotations) | set(RESERVED)
    checked: dict[str, Any] = {}
    for key, value in node.items():
        where = _join(path, key)
        if key not in known and not takes.open_ended:
            text = f"{where} is not a key of {node['_target_']}{nearest(key, takes.annotations)}"
            faults.append(Fault(where, "key", correction(where, value) or text))
        elif isinstance(value, Mapping) and "_target_" in value:
            faults += [
                Fault(f"{where}.{twice}", "conflict", f"{where}.{twice} is taken from {path}.{twice}: set that one")
                for twice in value
                if twice in takes.annotations
            ]
            is_function = typing.get_origin(takes.annotations.get(key)) is collections.abc.Callable
            checked[key] = check_target(value, where, faults, called=is_function)
        elif isinstance(value, Mapping) and any(_is_node(part) for part in value.values()):
            checked[key] = {name: _check_part(part, _join(where, name), faults) for name, part in value.items()}
        elif key in RESERVED:
            checked[key] = value
        else:
            checked[key] = check_value(value, takes.annotations.get(key, inspect.Parameter.empty), where, faults)
    if not node.get("_partial_"):
        missing = sorted(takes.required - set(node))
        remedy = f"; or set {path}._partial_=true, if training passes it" if called else ""
        faults += [
            Fault(at := _join(path, key), "missing", f"{at} is missing: {node['_target_']} needs it{remedy}")
            for key in missing
        ]
    return checked


def check_value(value: Any, annotation: Any, path: str, faults: list[Fault]) -> Any:
    """Cast one value; a fault names the value and what was expected."""
    if value is UNRESOLVED:
        return value
    if value == MISSING:
        faults.append(Fault(path, "missing", f"{path} has no value yet: set {path}=VALUE"))
        return value
    if isinstance(value, float) and not math.isfinite(value):
        faults.append(Fault(path, "value", f"{path} must be finite, got {value}: set {path} to a number"))
        return value
    try:
        checked = value if annotation is inspect.Parameter.empty else cast(value, annotation)
    except Mismatch as expected:
        faults.append(Fault(path, "type", f"{path} must be {expected}, got {value!r}"))
        return value
    except OverflowError:  # an integer of hundreds of digits where a float belongs
        checked = value
    if isinstance(checked, int) and not -MOST <= checked <= MOST:
        faults.append(
            Fault(
                path,
                "value",
                f"{path} must lie between -2^63 and 2^63, got one of {checked.bit_length()} bits: change it",
            )
        )
    return checked


def _has_keys(hint: Any) -> bool:
    """Whether values of this type are nodes: it is a dataclass, or typed by a `_target_`."""
    return hint is Target or dataclasses.is_dataclass(hint)


def _is_node(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _check_part(value: Any, path: str, faults: list[Fault]) -> Any:
    """A member of a mapping of nodes, such as the parts of a mixture."""
    if _is_node(value):
        return check_target(value, path, faults)
    text = f"{path} must be a node with a _target_, got {value!r}: add one, e.g. +loss@{path}=kd"
    faults.append(Fault(path, "type", text))
    return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


WEIGHTS = ("ce_weight", "kd_weight")


def reduce_alpha(
    loss: Mapping[str, Any], explicit: Iterable[str], faults: list[Fault], *, option: str, path: str = "loss"
) -> dict[str, Any]:
    """The loss node, and those inside it, with `alpha` replaced by `ce_weight` = 1 - alpha and `kd_weight` = alpha.

    Args:
        loss: the composed node; `alpha: null` means not given.
        explicit: keys of the node that the command sets; a weight among them contradicts a given alpha.
        faults: what is wrong is added here.
        option: the preset's name, for the sentences.
        path: where the node stands.
    """
    explicit = set(explicit)
    reduced = {key: _reduced(key, value, explicit, faults, path) for key, value in loss.items() if key != "alpha"}
    alpha, key = loss.get("alpha"), f"{path}.alpha"
    if alpha is None:
        return reduced
    weights = [weight for weight in WEIGHTS if weight in explicit]
    if weights:
        text = f"{key}={alpha} sets ce_weight and kd_weight, but {path}.{weights[0]} is given too: give one of the two"
        faults.append(Fault(key, "conflict", text))
    elif not all(weight in loss for weight in WEIGHTS):
        text = f"{key}={alpha} needs a preset with ce_weight and kd_weight; loss={option} has its own weights"
        faults.append(Fault(key, "key", text))
    elif isinstance(alpha, bool) or not isinstance(alpha, int | float):
        faults.append(Fault(key, "type", f"{key} must be a number, got {alpha!r}"))
    elif not 0 <= alpha <= 1:
        text = f"{key} must be between 0 and 1, got {alpha}: it is the weight of the soft term"
        faults.append(Fault(key, "value", text))
    else:
        # to 12 digits, as in run ids: 1 - 0.9 is then the 0.1 one would type
        reduced |= {"ce_weight": float(f"{1.0 - alpha:.12g}"), "kd_weight": float(alpha)}
    return reduced


def _reduced(key: str, value: Any, explicit: set[str], faults: list[Fault], path: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    inside = {name.removeprefix(f"{key}.") for name in explicit if name.startswith(f"{key}.")}
    return reduce_alpha(value, inside, faults, option=key, path=f"{path}.{key}")
