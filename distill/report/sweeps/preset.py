"""What a sweep preset varies, read from `configs/sweep/NAME.yaml`. Imports neither torch nor Hydra."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distill.config import configs_dir
from distill.tables.values import natural_key, split_list

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SEEDS = ("seed", "teacher.seed")  # averaged over


class UnknownSweep(ValueError):
    """No sweep has that name."""


class DamagedSweep(ValueError):
    """A preset's file does not say what a sweep's must; the sentence names the file."""


@dataclass(frozen=True)
class SweepPreset:
    """`keys` are the values that are varied, as `loss.temperature`; `losses` the loss presets, empty for any.

    `searched` says that they are proposed one after the other, `logarithmic` which of them evenly in their logarithm.
    """

    name: str
    keys: tuple[str, ...]
    losses: tuple[str, ...]
    searched: bool
    logarithmic: frozenset[str]


def sweep_names(*, config_dir: Path | None = None) -> list[str]:
    """The shipped sweeps and those in `config_dir/sweep`."""
    found = {path.stem for folder in _folders(config_dir) for path in folder.glob("*.yaml")}
    return sorted(found, key=natural_key)


def load_sweep(name: str, *, config_dir: Path | None = None) -> SweepPreset:
    """The sweep of that name. Raises UnknownSweep, or DamagedSweep where its file cannot be read as one."""
    path = next((each for folder in _folders(config_dir) if (each := folder / f"{name}.yaml").is_file()), None)
    if path is None or not name:
        raise UnknownSweep(name)
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader) or {}
        node = content.get("sweep", content)
        params, search = node.get("params") or {}, node.get("search") or {}
        space = search.get("space") or {}
        varied = {**params, **space}
        losses = _losses(str(params.get("loss", "")))
        logarithmic = {key for key, value in space.items() if isinstance(value, Mapping) and value.get("log")}
    except (yaml.YAMLError, OSError) as error:
        raise DamagedSweep(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    except (AttributeError, TypeError) as error:
        raise DamagedSweep(f"{path} is no sweep: it needs sweep.params or sweep.search.space, by key") from error
    if not varied:
        raise DamagedSweep(f"{path} varies nothing of its own: give it sweep.params or sweep.search.space")
    keys = tuple(str(key) for key in varied if "." in str(key) and key not in SEEDS)
    return SweepPreset(name, keys, losses, bool(space), frozenset(map(str, logarithmic)))


def _losses(text: str) -> tuple[str, ...]:
    return () if "(" in text else tuple(each for each in split_list(text) if each)


def _folders(config_dir: Path | None) -> list[Path]:
    return [configs_dir() / "sweep", *([config_dir / "sweep"] if config_dir else [])]
