"""`config.yaml` of a run: written once as plain data, read with a loader that can build nothing else."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distill.runs.files import DEEPEST, StorageError, check_plain, parse_json, read_record, storage_errors, write_bytes
from distill.runs.layout import CONFIG
from distill.runs.records import changed

# libyaml where PyYAML was built with it (seven times faster); both read plain data only, never Python objects
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML is slow to parse, JSON thirty times faster: a copy under the digest of the file it was made from, so
# that an edited config.yaml always wins. A listing of 500 runs then takes a tenth of a second.
COPY = ".config.json"


def write_config(directory: Path, config: Mapping[str, object]) -> bytes:
    """Writes `config` (plain data, else ValueError) atomically, in its key order; returns the bytes of the file.

    Raises StorageError.
    """
    content = plain(config)
    data = as_yaml(content)
    write_bytes(directory / CONFIG, data)
    copy = json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "content": content})
    write_bytes(directory / COPY, copy.encode("utf-8"))
    return data


def as_yaml(content: Mapping[str, object]) -> bytes:
    """The bytes of a `config.yaml` with `content`, plain data."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1_000_000).encode("utf-8")


def read_config(directory: Path, *, expected_sha256: str | None = None) -> dict[str, Any]:
    """The mapping in `config.yaml`. Raises StorageError: missing, damaged, more than plain data, or another file."""
    path = directory / CONFIG
    with storage_errors(path, action="read"):
        data = read_record(path)
    digest = hashlib.sha256(data).hexdigest()
    if expected_sha256 not in (None, digest):
        raise StorageError(changed(path))
    config = _read_copy(directory, digest)
    if config is None:
        config = _parse(path, data)
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


def _read_copy(directory: Path, digest: str) -> dict[str, Any] | None:
    try:
        copy = parse_json(read_record(directory / COPY))
        content = copy["content"] if copy["sha256"] == digest else None
    except (OSError, StorageError, ValueError, KeyError, TypeError):
        return None
    return content if isinstance(content, dict) else None


def _refuse_traps(data: bytes) -> None:
    """Raises ValueError for what no config of ours holds: nesting that overflows libyaml, and aliases."""
    depth = 0
    for event in yaml.parse(data, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it uses an alias (*name), and a few of those can stand for gigabytes")


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        _refuse_traps(data)
        config = yaml.load(data, Loader=_Loader)
        check_plain(config)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(f"{path} is damaged: {reason}") from error
    if not isinstance(config, dict):
        raise StorageError(f"{path} is damaged: it must hold a mapping, got {type(config).__name__}")
    return config
