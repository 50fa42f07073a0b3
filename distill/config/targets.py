"""What a `_target_` names, which keys it takes, and its stable public name."""

import importlib
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RESERVED = ("_target_", "_partial_")
# given at run time, never in a preset
PROVIDED = frozenset({"num_classes", "params"})


class UnknownTarget(ValueError):
    """`_target_` does not name anything that can be imported and called."""


def resolve(path: str) -> Any:
    """The object behind a dotted path, importing its module.

    Raises:
        UnknownTarget: nothing callable of that name can be imported.
    """
    parts = path.split(".")
    reason = "it has no dots" if len(parts) < 2 else ""
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            reason = reason or str(error)
            continue
        except Exception as error:  # a module from anywhere, which may fail in its own way
            raise UnknownTarget(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError as error:
            raise UnknownTarget(f"{path!r} cannot be imported: {error}") from error
        if not callable(found):
            raise UnknownTarget(f"{path!r} is not a class or function")
        return found
    raise UnknownTarget(f"{path!r} cannot be imported: {reason}")


def public_name(path: str) -> str:
    """The shortest path under which the object of `path` is exported: `distill.models.resnet8`.

    Moving code between private modules leaves it unchanged, so run ids outlive refactoring.
    """
    found = resolve(path)
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if module is None or name is None:
        return path
    parts = module.split(".")
    for cut in range(1, len(parts) + 1):
        package = importlib.import_module(".".join(parts[:cut]))
        if getattr(package, name, None) is found:
            return ".".join([*parts[:cut], name])
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
