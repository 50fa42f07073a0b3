"""Configuration values and preset names as text, and text back into values."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

# keys of a data set that name the place of its files, which changes no number
PLACES = ("npz", "root", "shards", "download")
HIDDEN_KEYS = {*PLACES, "holdout"}  # tables show the hold-out in words of their own
_PARTS = re.compile(r"0*([0-9]+)|([^0-9]+)")
STATISTICS = {"mean", "std"}  # of the pixels
TOP5_CLASSES = 100  # text shows the top-5 accuracy of data sets with more classes


def flatten(node: Any, *, prefix: str = "") -> dict[str, Any]:
    """The leaves of a nested mapping by dotted path; a list of plain values is one leaf, other lists are numbered."""
    found: dict[str, Any] = {}
    _flatten(node, prefix, found)
    return found


def _flatten(node: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(node, dict | Mapping):
        children: Iterable[tuple[Any, Any]] = node.items()
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in node):
        children = enumerate(node)
    else:
        found[path] = node
        return
    for key, value in children:
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, str | int | float):
            found[where] = value
        else:
            _flatten(value, where, found)


def fields(item: object, *names: str, prefix: str = "") -> dict[str, Any]:
    """The attributes of that name as a record, with `prefix` before each key; all None where the item is None."""
    return {f"{prefix}{name}": getattr(item, name) if item is not None else None for name in names}


def to_text(value: Any) -> str:
    """A leaf as a person writes it on the command line: null, true, 4, [5,7]."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(to_text, value))}]"
    return str(value)


def number(value: float | None, digits: int = 2) -> str:
    """`12.34`, or `-` for None; never `-0.00`."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def is_number(value: Any) -> bool:
    """Whether a leaf is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def rank(value: Any, text: Callable[[Any], str] = to_text) -> tuple[bool, Any]:
    """A sort key: numbers by size, then everything else by its `text`."""
    return not is_number(value), value if is_number(value) else natural_key(text(value))


def matches(value: Any, text: str) -> bool:
    """True when `text` stands for the leaf: numbers by value (4 is 4.0), null and booleans by word."""
    text = text.strip()
    if isinstance(value, list | tuple):
        inner = text.removeprefix("[").removesuffix("]")
        items = split_list(inner) if inner else []
        return len(items) == len(value) and all(map(matches, value, items))
    if isinstance(value, bool) or value is None:
        return text.lower() in ((to_text(value), "none") if value is None else (to_text(value),))
    if isinstance(value, int | float):
        try:
            return float(text) == float(value)
        except ValueError:
            return False
    return str(value) == text


def split_list(text: str) -> list[str]:
    """Split at commas outside brackets: `1,[2,3]` becomes `1` and `[2,3]`."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


@lru_cache(maxsize=4096)
def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """A sort key that reads numbers: resnet8 comes before resnet20, temperature=2 before temperature=16."""
    # the longer number is the larger one; int() refuses thousands of digits
    return tuple((len(digits), digits) if digits else (-1, rest) for digits, rest in _PARTS.findall(text))


def preset_name(name: str) -> str:
    """The preset in a run's name of an option: `kd` of `kd temperature=8`."""
    return name.split(" ", 1)[0]


def preset_changes(name: str) -> list[str]:
    """The changes to the preset in such a name: `["temperature=8"]`."""
    return re.split(r" (?=[\w.]+=)", name.partition(" = ")[0])[1:]


@lru_cache(maxsize=4096)
def dataset_name(name: str) -> str:
    """A data set's name without the place of its files: `cifar100 limit=500` of `cifar100 npz=FILE limit=500`.

    Data of one's own have the name of their file: arrays, and a file whose mean and deviation are not the preset's.
    """
    preset, changes = preset_name(name), {change.partition("=")[0]: change for change in preset_changes(name)}
    kept = [change for key, change in changes.items() if key not in HIDDEN_KEYS | STATISTICS]
    file = re.split(r"[/\\]", changes.get("npz", "").partition("=")[2])[-1]
    if file and (preset == "arrays" or STATISTICS & set(changes)):
        preset = file if preset == "arrays" else f"{preset} {file}"
    return " ".join([preset, *kept])
