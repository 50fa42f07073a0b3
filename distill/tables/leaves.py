"""Nested configuration as dotted paths and back to words."""

from collections.abc import Mapping, Sequence
from typing import Any


def leaves(node: Any, *, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested mapping by dotted path; a list of plain values is one, others are numbered."""
    if isinstance(node, Mapping):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in node):
        children = [(str(position), value) for position, value in enumerate(node)]
    else:
        return {prefix: node}
    found: dict[str, Any] = {}
    for key, value in children:
        found |= leaves(value, prefix=f"{prefix}.{key}" if prefix else key)
    return found


def word(value: Any) -> str:
    """A leaf as a person writes it on the command line: null, true, 4, [5,7]."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(word(item) for item in value)}]"
    return str(value)


def matches(value: Any, text: str) -> bool:
    """True when the leaf is what a person wrote: numbers by value (4 is 4.0), null and booleans by word."""
    text = text.strip()
    if isinstance(value, list | tuple):
        inner = text.removeprefix("[").removesuffix("]")
        items = split(inner) if inner else []
        return len(items) == len(value) and all(map(matches, value, items))
    if isinstance(value, bool) or value is None:
        return text.lower() in ((word(value), "none") if value is None else (word(value),))
    if isinstance(value, int | float):
        try:
            return float(text) == float(value)
        except ValueError:
            return False
    return str(value) == text


def split(text: str) -> list[str]:
    """Split at commas outside brackets: `1,[2,3]` is `1` and `[2,3]`."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
