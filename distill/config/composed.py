"""What Hydra composed for one job, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from distill.config.check import MISSING, UNRESOLVED


@dataclass(frozen=True)
class Composed:
    """One job: its configuration as plain values, the chosen option of each group, the overrides that made it.

    `uncertain` are the nodes that are not what was asked for, because an option does not exist; `launching` is
    what Hydra's own node says about launcher and sweeper.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    faults: list[str] = field(default_factory=list)
    uncertain: frozenset[str] = frozenset()
    launching: Mapping[str, Any] = field(default_factory=dict)


def from_hydra(
    config: DictConfig, hydra: DictConfig, overrides: Sequence[str], faults: list[str] | None = None
) -> Composed:
    """A composition as plain values; interpolations are resolved, unfilled ones become faults."""
    faults = [] if faults is None else faults
    choices = {str(k): str(v) for k, v in hydra.runtime.choices.items() if not str(k).startswith("hydra/")}
    with_values = {key: _plain(config, key, str(key), faults) for key in config if key != "hydra"}
    launching = {key: OmegaConf.to_container(hydra[key], resolve=False) for key in ("launcher", "sweeper")}
    plain = {str(k): v for k, v in with_values.items()}
    return Composed(plain, choices, tuple(overrides), faults, launching=launching)


def _plain(node: Any, key: Any, path: str, faults: list[str]) -> Any:
    if OmegaConf.is_missing(node, key):
        return MISSING
    try:
        value = node[key]
    except InterpolationToMissingValueError:
        unresolved: Any = OmegaConf.to_container(node, resolve=False)
        wanted = unresolved[key]
        faults.append(f"{path} is {wanted}, which has no value here: choose an experiment that fills it, or set {path}")
        return UNRESOLVED
    except OmegaConfBaseException as error:
        faults.append(f"{path}: {first_line(error)}")
        return UNRESOLVED
    if isinstance(value, DictConfig):
        return {str(k): _plain(value, k, f"{path}.{k!s}", faults) for k in value}
    if isinstance(value, ListConfig):
        return [_plain(value, i, f"{path}[{i}]", faults) for i in range(len(value))]
    return value


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
