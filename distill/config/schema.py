"""The typed part of the root configuration; the other nodes are typed by the signature of their `_target_`."""

from dataclasses import dataclass, field
from typing import Any, Literal, NewType

NAN = float("nan")
Precision = Literal["fp32", "bf16", "auto"]
Source = Literal["live", "table", "auto"]
# a node with a `_target_`, typed by the signature of what that names
Target = NewType("Target", dict[str, Any])


@dataclass
class Engine:
    """How a run is carried out; nothing here changes which run it is."""

    device: str
    threads: int | None
    checkpoint_seconds: float
    compile: bool
    capture: bool | Literal["auto"]
    deterministic: bool


@dataclass
class Pair:
    """Per-pair values of papers; `???` where the experiment names none, and a fault only where a preset reads it."""

    zscore_temperature: float = NAN
    zscore_weight: float = NAN
    dkd_target_weight: float = NAN
    dkd_nontarget_weight: float = NAN
    zscore_dkd_temperature: float = NAN
    zscore_dkd_target_weight: float = NAN
    zscore_dkd_nontarget_weight: float = NAN
    zscore_mlkd_temperature: float = NAN
    zscore_mlkd_weight: float = NAN


@dataclass
class TeacherNode:
    """A teacher: a network, trained as a run of its own, or a finished run."""

    seed: int
    precision: Precision | None
    source: Source
    run: str | None
    loss: Target
    recipe: Target
    network: Target | None = None


@dataclass
class SelectNode:
    """How a sweep tunes: `holdout` is the share of the training images kept out while the grid is run, `seeds` how many
    runs (seeds 1, 2, ...) the best cell of each method is then given on all images."""

    holdout: float
    seeds: int


@dataclass
class SearchNode:
    """What Optuna may propose, `trials` times a method: `space: {loss.temperature: {low: 1.0, high: 8.0}}`."""

    trials: int
    space: dict[str, Any]
    seed: int = 0


@dataclass
class SweepNode:
    """The overrides a `sweep` preset adds: `params: {loss.temperature: "1,2,4"}`; with `select` it tunes them, by
    `search` instead of a grid where there is one."""

    params: dict[str, Any] = field(default_factory=dict)
    select: SelectNode | None = None
    search: SearchNode | None = None


@dataclass
class Root:
    """Everything `distill train` understands."""

    dataset: Target
    student: Target
    teacher: TeacherNode
    loss: Target
    recipe: Target
    pair: Pair
    engine: Engine
    seed: int
    precision: Precision
    runs_dir: str
    sweep: SweepNode = field(default_factory=SweepNode)
