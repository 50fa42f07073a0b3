"""A method attached to a pair of networks, and batches to try it on."""

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import method_networks
import pytest
import torch
from method_presets import build, composed, first_stage
from torch import Tensor, nn

from distill.data import Batch
from distill.losses import Objective, Task
from distill.models import Output
from distill.runs.layout import FIRST_STAGE
from distill.training import seeded

EPOCHS = (0.0, 5.5, 300.0)  # before, inside and after the ramps of the literature
ROWS, IMAGES = 8, 40
DRAWS = 11  # what torch's generator is seeded with before every forward


def _labels() -> Tensor:
    return torch.randint(method_networks.CLASSES, (IMAGES,), generator=torch.Generator().manual_seed(5))


TASK = Task(method_networks.IMAGE_SIZE, _labels())


@dataclass
class Case:
    """What a reference is computed from: everything in float64 and without gradients."""

    student: Output
    teacher: Output | None
    batch: Batch
    progress: float
    objective: Objective
    student_network: nn.Module
    teacher_network: nn.Module | None
    before: dict[str, Tensor]


class Trial:
    """A method attached as a run attaches it, `student` being the network that is trained. No first stage is run:
    its networks are as they begin."""

    def __init__(self, name: str, pair: str, *, dtype: torch.dtype = torch.float32, seed: int = 1) -> None:
        self.name, self.dtype = name, dtype
        student, teacher = method_networks.networks(pair)
        if _trains_the_teacher(name):
            student = method_networks.networks(pair)[1]
        self.objective = build(name, seed=seed)
        self.teacher = teacher.eval() if self.objective.needs_teacher else None
        with pytest.MonkeyPatch.context() as patch, seeded(seed, "attach"):
            patch.setattr("distill.losses.networks.outline", method_networks.outline_of)
            deployed = self.objective.attach(student, self.teacher, TASK)
        if first_stage(name):
            first = Trial(f"{name}/{FIRST_STAGE}", pair, seed=seed)
            self.objective.start(student, first.student.state_dict())
        teacher.to(dtype)
        self.student = (student if deployed is None else deployed).to(dtype).train()
        self.objective = self.objective.to(dtype).train()

    def batch(self) -> Batch:
        """Eight of the forty images, and their strong view where the method asks for one."""
        generator = torch.Generator().manual_seed(7)
        size = (ROWS, 3, method_networks.IMAGE_SIZE, method_networks.IMAGE_SIZE)
        images, strong = (torch.randn(size, generator=generator, dtype=self.dtype) for _ in range(2))
        index = torch.randperm(IMAGES, generator=generator)[:ROWS]
        view = torch.zeros_like(index)
        return Batch(images, TASK.labels[index], index, view, strong if self.objective.two_views else None)

    def outputs(self, batch: Batch) -> tuple[Output, Output | None]:
        """What student and teacher make of a batch, with gradients at both."""
        seen = [self._seen(network, batch) for network in (self.student, self.teacher) if network is not None]
        return seen[0], (seen[1] if len(seen) > 1 else None)

    def terms(
        self,
        batch: Batch,
        *,
        progress: float = EPOCHS[1],
        outputs: tuple[Output, Output | None] | None = None,
        seed: int = DRAWS,
    ) -> dict[str, Tensor]:
        """The objective's terms; what it draws follows from `seed`, the same every time."""
        student, teacher = self.outputs(batch) if outputs is None else outputs
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond, for GPUs
        return self.objective(student, teacher, batch, torch.tensor(progress, dtype=self.dtype))

    def values(self, batch: Batch, *, progress: float = EPOCHS[1]) -> dict[str, float]:
        """The terms as numbers."""
        return {name: term.item() for name, term in self.terms(batch, progress=progress).items()}

    def learned(self) -> list[nn.Parameter]:
        """What an optimizer is given."""
        return list(dict.fromkeys([*self.student.parameters(), *self.objective.parameters()]))

    def _seen(self, network: nn.Module, batch: Batch) -> Output:
        taps = not self.objective.logits_only
        output: Output = network(batch.images, taps=taps)
        return output if batch.strong is None else replace(output, strong=network(batch.strong, taps=taps))


def _trains_the_teacher(name: str) -> bool:
    preset = name.removesuffix(f"/{FIRST_STAGE}")
    return preset != name and composed(preset)[1]["network"] == "teacher"


@cache
def pairs(name: str) -> tuple[str, ...]:
    """The pairs of networks that a method accepts, the most different first."""
    accepted, refusals = [], []
    for pair in method_networks.PAIRS:
        try:
            Trial(name, pair)
        except ValueError as refusal:
            refusals.append(f"{pair}: {refusal}")
        else:
            accepted.append(pair)
    assert accepted, "\n".join([f"loss={name} accepts no pair of networks:", *refusals])
    return tuple(accepted)


def trial(name: str, **options: Any) -> Trial:
    """A method on the most different pair of networks that it accepts."""
    return Trial(name, pairs(name)[0], **options)


def twice(batch: Batch) -> Batch:
    """A batch written twice, its positions in the data set too."""
    return Batch(**{f.name: _doubled(getattr(batch, f.name)) for f in fields(Batch)})


def mapped(output: Output, change: Any) -> Output:
    """An output with every tensor changed."""

    def over(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(over, value))
        if isinstance(value, Output):
            return mapped(value, change)
        return None if value is None else change(value)

    return Output(**{f.name: over(getattr(output, f.name)) for f in fields(Output)})


def tensors(output: Output) -> list[Tensor]:
    """Every tensor of an output, by itself."""
    found: list[Tensor] = []
    mapped(output, found.append)
    return found


def _doubled(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else torch.cat([tensor, tensor])
