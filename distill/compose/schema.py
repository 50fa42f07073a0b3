"""The typed part of the root configuration; the other nodes are typed by the signature of their `_target_`."""

from dataclasses import dataclass, field
from typing import Any, Literal

NAN = float("nan")
Precision = Literal["fp32", "bf16", "auto"]


@dataclass
class Engine:
    """How a run is carried out; nothing here changes which run it is."""

    device: str
    threads: int | None
    checkpoint_seconds: float


@dataclass
class Pair:
    """Per-pair values of papers; `???` where the experiment names none, and a fault only where a preset reads it."""

    zscore_temperature: float = NAN
    zscore_weight: float = NAN


@dataclass
class TeacherNode:
    """A teacher: a network, trained as a run of its own, or a finished run."""

    seed: int
    precision: Precision | None
    run: str | None
    loss: dict[str, Any]
    recipe: dict[str, Any]
    network: dict[str, Any] | None = None


@dataclass
class Root:
    """Everything `distill train` understands."""

    dataset: dict[str, Any]
    student: dict[str, Any]
    teacher: TeacherNode
    loss: dict[str, Any]
    recipe: dict[str, Any]
    pair: Pair
    engine: Engine
    seed: int
    precision: Precision
    runs_dir: str
    sweep: dict[str, Any] = field(default_factory=dict)
