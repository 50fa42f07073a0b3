"""A cache for the composed configurations of a table's cells; composing a hundred takes seconds."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill.config import configs_dir
from distill.runs.files import StorageError, write_text

_CODE = [*Path(__file__).parent.glob("*.py"), Path(__file__).parents[1] / "check.py"]  # what composes them


def declared(commands: Sequence[Sequence[str]], config_dir: Path | None) -> list[dict[str, Any]]:
    """As `Presets.declared`, from a file in the user's cache folder where nothing that they depend on has changed.

    With presets of the user's own they are composed every time, since these may include any other file.
    """
    path = _path(commands)
    state = _state() if config_dir is None else ""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_bytes())
        if state and found["state"] == state:
            return list(found["configs"])

    from distill.config.compose.presets import Presets  # Hydra takes 0.4 s to import

    configs = Presets(config_dir).declared(commands)
    text = json.dumps({"state": state, "configs": configs}, default=str)
    if state and json.loads(text)["configs"] == configs:
        with suppress(StorageError, OSError):  # a cache that cannot be written only costs time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    return configs


def _path(commands: Sequence[Sequence[str]]) -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(json.dumps([list(words) for words in commands]).encode()).hexdigest()[:16]
    return Path(folder, "distill", f"cells-{name}.json")


def _state() -> str:
    """A digest of all that a composition depends on: presets, the variables that they read, the code, and Hydra."""
    digest = hashlib.sha256(f"{version('hydra-core')} {version('omegaconf')}".encode())
    presets = configs_dir()
    files = [path for path in sorted(presets.rglob("*.yaml")) if path.relative_to(presets).parts[0] != "table"]
    for path in [*files, *sorted(_CODE)]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(presets.parent) if path in files else path.name} {len(content)}\n".encode())
        digest.update(content)
        for name in re.findall(rb"oc\.env:(\w+)", content) if path.suffix == ".yaml" else ():
            digest.update(os.environ.get(name.decode(), "").encode() + b"\0")
    return digest.hexdigest()
