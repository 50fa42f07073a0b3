"""The keys of the root configuration and their types; a node with a `_target_` is typed by that target's signature."""

from dataclasses import dataclass, field
from typing import Any, Literal, NewType

NAN = float("nan")
Precision = Literal["fp32", "bf16", "auto"]
Source = Literal["live", "table", "auto"]
# a node with a `_target_`, typed by the signature of what that names
Target = NewType("Target", dict[str, Any])


@dataclass
class EngineNode:
    """How a run is computed; nothing here enters its id."""

    device: str
    threads: int | None
    workers: int | None
    checkpoint_seconds: float
    gradient_norms_every: int | None
    compile: bool | Literal["auto"]
    capture: bool | Literal["auto"]
    deterministic: bool


@dataclass
class Pair:
    """Per-pair values of papers; `???` where the experiment gives none, which is a fault only if a preset reads it."""

    ce_weight: float = NAN
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
class ExpectedNode:
    """The accuracy in percent that a teacher must have on the evaluation images, and the tolerance in points.

    It applies to a test set of `images` images, or with that digest, which the teacher reads at `size` pixels.
    """

    accuracy: float
    tolerance: float
    images: int | str | None = None
    size: int | None = None


@dataclass
class TeacherNode:
    """A teacher: a network that is trained as a run of its own, a finished run, or published weights.

    run         of a finished run: its id or path
    pretrained  published weights of timm's or torchvision's network: true, or their name
    weights     a file with weights of the network
    input       `native`: images are resized to the size that the weights were trained with
    classes     the teacher's class of each class of the data set, in its order: numbers from 0, or WordNet ids
    mean, std   of the images that the weights were trained with, where their publisher does not state them
    expected    what its accuracy is held against
    """

    seed: int
    precision: Precision | None
    source: Source
    run: str | None
    loss: Target
    recipe: Target
    network: Target | None = None
    pretrained: bool | str = False
    weights: str | None = None
    input: Literal["stream", "native"] = "stream"
    classes: list[int | str] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    expected: ExpectedNode | None = None


@dataclass
class FirstStage:
    """The node `loss.first_stage`: the run that a method of two stages starts from.

    loss     the objective of the first stage
    epochs   its length in the recipe's reference epochs; a shortened recipe shortens it by the same factor
    learning_rate  of the first stage, constant; None takes the recipe's
    network  the network of the first stage: the student's, which then starts from the weights it ends with,
             or the teacher's, next to which it trains a module for the second stage (a paraphraser); all students
             share a teacher's first stage
    """

    loss: Target
    epochs: int
    network: Literal["student", "teacher"]
    learning_rate: float | None = None


@dataclass
class SelectNode:
    """How a sweep tunes: `holdout` is the share of the training images held out while the grid is run; the best cell of
    each method is then trained on all images with `seeds` seeds (1, 2, ...)."""

    holdout: float
    seeds: int


@dataclass
class SearchNode:
    """The values that Optuna may propose, in `trials` trials for each method:
    `space: {loss.temperature: {low: 1.0, high: 8.0}}`."""

    trials: int
    space: dict[str, Any]
    seed: int = 0


@dataclass
class SweepNode:
    """The overrides that a `sweep` preset adds: `params: {loss.temperature: "1,2,4"}`; with `select` the best of them
    is chosen, and with `search` Optuna proposes the values instead of a grid."""

    params: dict[str, Any] = field(default_factory=dict)
    select: SelectNode | None = None
    search: SearchNode | None = None


@dataclass
class Root:
    """The root of a configuration: every key of `distill train`."""

    dataset: Target
    student: Target
    teacher: TeacherNode
    loss: Target
    recipe: Target
    pair: Pair
    engine: EngineNode
    seed: int
    precision: Precision
    runs_dir: str
    sweep: SweepNode = field(default_factory=SweepNode)
