"""What a method reads, found by running it on shapes: with everything, and without each thing it may need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from distill.config.build import build_objective
from distill.config.rehearsal import rehearse
from distill.data import Batch
from distill.models import Network, Output
from distill.objectives import Objective, Task

CLASSES = 100
WIDTHS, SIZES = (16, 16, 32, 64), (32, 32, 16, 8)  # of every tap; equal for student and teacher, as FSP demands

# what a network may lack, and its outputs then
PARTS: dict[str, Callable[[Output], Output]] = {
    "features": lambda output: replace(output, features=()),
    "preactivations": lambda output: replace(output, preactivations=(None,) * len(output.preactivations)),
    "final_map": lambda output: replace(output, final_map=None),
    "embedding": lambda output: replace(output, embedding=None),
    "head": lambda output: output,
}


@dataclass(frozen=True)
class Observed:
    """The names of a method's terms, what it reads beside the labels, and whether it has a teacher."""

    terms: tuple[str, ...]
    needs: tuple[str, ...]
    teacher: bool


def observe(node: Mapping[str, Any]) -> Observed:
    """Run the objective of a checked node between two networks of equal shapes.

    Raises:
        Exception: whatever building or running it raises.
    """
    watched = Watched(build_objective(node, seed=0))
    terms = _rehearse(watched, "")
    needs = [field for field in ("logits",) if field in watched.read_of_teacher]
    if not watched.logits_only:
        needs += [part for part in PARTS if _fails_without(part, node)]
    needs += [field for field in ("index", "strong") if field in watched.read_of_batch]
    if watched.two_views and "strong" not in needs:
        needs.append("strong")
    return Observed(tuple(terms), tuple(needs), watched.needs_teacher)


class Watched(Objective):
    """An objective that notes what another one reads of the teacher's output and of the batch."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.needs_teacher, self.two_views = objective.needs_teacher, objective.two_views
        self.logits_only = objective.logits_only
        self.read_of_teacher: set[str] = set()
        self.read_of_batch: set[str] = set()

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> nn.Module | None:
        return self.objective.attach(student, teacher, task)

    def forward(self, student: Output, teacher: Output | None, batch: Batch, progress: Tensor) -> dict[str, Tensor]:
        seen = None if teacher is None else _noting(teacher, self.read_of_teacher)
        return self.objective(student, seen, _noting(batch, self.read_of_batch), progress)


class Shapes(Network):
    """A network with outputs of the shapes of a CIFAR ResNet, made of next to nothing; it may lack one part."""

    def __init__(self, *, lacking: str = "") -> None:
        super().__init__()
        self.part = lacking
        self.feature_channels = () if lacking == "features" else WIDTHS
        self.num_classes, self.embedding_dim = CLASSES, WIDTHS[-1]
        self.fc = nn.Linear(WIDTHS[-1], CLASSES, device="meta")

    @property
    def head(self) -> nn.Linear | None:
        return None if self.part == "head" else self.fc

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        grey = images.mean(dim=1, keepdim=True)
        sizes = zip(WIDTHS, SIZES, strict=True)
        maps = tuple(functional.adaptive_avg_pool2d(grey, size).expand(-1, width, -1, -1) for width, size in sizes)
        embedding = maps[-1].mean(dim=(2, 3))
        output = Output(self.fc(embedding), maps, maps, maps[-1], embedding)
        return PARTS[self.part](output) if taps and self.part else output


def _fails_without(part: str, node: Mapping[str, Any]) -> bool:
    try:
        _rehearse(build_objective(node, seed=0), part)
    except Exception:  # in its own words or not: without that part it cannot be run
        return True
    return False


def _rehearse(objective: Objective, lacking: str) -> dict[str, Tensor]:
    student, teacher = Shapes(lacking=lacking), Shapes(lacking=lacking)
    labels = torch.arange(2 * CLASSES) % CLASSES
    guide = teacher if objective.needs_teacher else None
    return rehearse(objective, student, guide, image_size=SIZES[0], labels=labels)


def _noting(record: Any, read: set[str]) -> Any:
    """A copy of an output or a batch that notes which of its fields are read."""
    kind: Any = type(record)

    def get(self: Any, name: str) -> Any:
        read.add(name)
        return object.__getattribute__(self, name)

    copied: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": get}))
    object.__getattribute__(copied, "__dict__").update(vars(record))
    return copied
