"""`config.yaml` of a run: written once as plain data, read with a loader that can build nothing else."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from distill.runs.files import DEEPEST, StorageError, check_plain, explain, parse_json, read_record, write_bytes
from distill.runs.identity import canonical
from distill.runs.layout import CONFIG
from distill.runs.records import changed, check_config
from distill.runs.target_names import with_current_names

# libyaml where PyYAML was built with it (seven times faster); both read plain data only, never Python objects
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML is slow to parse, JSON thirty times faster. The first line of this copy is the digest of config.yaml and of the
# other lines, so that an edited config.yaml always wins. Each other line is one part of the configuration, after its
# keys: runs of a store have most parts in common, and a listing parses each of them once.
COPY = ".config.json"

Part = tuple[str | None, str, Any]  # the key of the mapping that holds it, None at the top; its own key; its value


def write_config(directory: Path, config: Mapping[str, object]) -> bytes:
    """Writes `config` (plain data, else ValueError) atomically, in its key order; returns the bytes of the file.

    Raises StorageError.
    """
    content = plain(config)
    data = as_yaml(content)
    write_bytes(directory / CONFIG, data)
    lines = "".join(json.dumps(part) + "\n" for part in _parts(content)).encode("ascii")
    write_bytes(directory / COPY, hashlib.sha256(data + lines).hexdigest().encode("ascii") + b"\n" + lines)
    return data


def as_yaml(content: Mapping[str, object]) -> bytes:
    """The bytes of a `config.yaml` with `content`, plain data."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1_000_000).encode("utf-8")


def read_config(directory: Path, *, expected_sha256: str | None = None) -> dict[str, Any]:
    """The mapping in `config.yaml`. Raises StorageError: missing, damaged, more than plain data, or another file."""
    return _read(directory, expected_sha256, _part, lambda config: config)


def read_shared_config(directory: Path, *, expected_sha256: str | None = None) -> dict[str, Any]:
    """The same, checked: targets under today's names, the identity canonical, every value of its type, or StorageError.

    Runs share its parts: they must not be changed.
    """
    return _read(directory, expected_sha256, _shared_part, _checked)


def _read(
    directory: Path,
    expected_sha256: str | None,
    parse: Callable[[bytes], Part],
    check: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    path = f"{directory}/{CONFIG}"
    try:
        data = read_record(path)
    except OSError as error:
        raise StorageError(explain(Path(path), error, action="read")) from error
    digest = hashlib.sha256(data).hexdigest()
    if expected_sha256 not in (None, digest):
        raise StorageError(changed(path))
    config = _read_copy(directory, data, parse, check)
    if config is None:
        config = _parse(path, data, check)
    for key in ("names", "config", "identity"):
        if not isinstance(config.get(key), dict):
            raise StorageError(f"{path} is damaged: its key '{key}' must be a mapping")
    if not isinstance(config.get("run_id"), str) or not config["run_id"].isalnum():
        raise StorageError(f"{path} is damaged: its key 'run_id' must be letters and digits")
    return config


def plain(value: object, where: str = "config") -> Any:
    """`value` as new dicts, lists and scalars, for YAML and JSON. Raises ValueError, naming the key."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case str():
            return str.__str__(value)
        case list() | tuple():
            return [plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
        case Mapping() if all(isinstance(key, str) for key in value):
            return {str.__str__(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    raise ValueError(f"{where} must be plain data with string keys, got {type(value).__name__}: convert it first")


def _read_copy(
    directory: Path,
    data: bytes,
    parse: Callable[[bytes], Part],
    check: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any] | None:
    """The configuration in the copy; None where that is missing, damaged or no copy of `data`."""
    try:
        head, _, lines = read_record(f"{directory}/{COPY}").partition(b"\n")
        if head == hashlib.sha256(data + lines).hexdigest().encode("ascii"):
            return _joined(map(parse, lines.splitlines()))
        earlier = parse_json(head)  # a run of an earlier version: one mapping
        return check(earlier["content"]) if earlier["sha256"] == hashlib.sha256(data).hexdigest() else None
    except (OSError, StorageError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _parts(content: Mapping[str, Any]) -> Iterator[list[Any]]:
    """`[key, key, value]` for every value of a mapping in `content`, `[key, value]` for anything else."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from ([key, inner, value[inner]] for inner in value)
        else:
            yield [key, value]


def _joined(parts: Iterable[Part]) -> dict[str, Any]:
    """The mapping that `_parts` took apart, made anew from the values given. Raises ValueError where a key repeats."""
    content: dict[str, Any] = {}
    mappings: dict[str | None, dict[str, Any]] = {None: content}
    for outer, key, value in parts:
        place = mappings.get(outer)
        if place is None and outer is not None and outer not in content:
            content[outer] = mappings[outer] = place = {}
        if place is None or key in place:
            raise ValueError(f"the key {key} repeats")
        place[key] = value
    return content


def _part(line: bytes) -> Part:
    match parse_json(line):
        case [str(key), value]:
            return None, key, value
        case [str(outer), str(key), value]:
            return outer, key, value
    raise ValueError("it is no list of one or two keys and a value")


@lru_cache(maxsize=10_000)
def _shared_part(line: bytes) -> Part:
    outer, key, value = _part(line)
    if outer is None:
        return None, key, _checked({key: value})[key]
    return outer, key, _checked({outer: {key: value}})[outer][key]


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """A configuration, or a part of one. Raises ValueError."""
    check_config(content)
    made = {"config": with_current_names, "identity": canonical}
    return {key: made[key](value) if key in made else value for key, value in content.items()}


def _refuse_traps(data: bytes) -> None:
    """Raises ValueError for what no config of ours holds: nesting that overflows libyaml, and aliases."""
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses an alias (*name), and a few of those can stand for gigabytes")


def _parse(path: str, data: bytes, check: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        _refuse_traps(data)
        config = yaml.load(data, Loader=_Loader)
        check_plain(config)
        if not isinstance(config, dict):
            raise ValueError(f"it must hold a mapping, got {type(config).__name__}")
        return check(config)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{path} is damaged: {reason}") from error
