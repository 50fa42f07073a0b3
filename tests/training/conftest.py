"""A trainer's parts, small enough for exhaustive tests: 44 images of 8 x 8, batches of 16, 16 and 12."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from silent import Silent
from torch import nn
from torch.nn import functional as F

from distill.data import EvaluationStream, ImageStream, synthetic
from distill.losses import CrossEntropy, Objective, SoftTargets, Task, kd
from distill.models import Output
from distill.teachers import LiveTeacher
from distill.training import Member, Recipe, Steps, fit, seeded

CPU = torch.device("cpu")
CLASSES = 4


class TinyNetwork(nn.Module):
    """A convolution with BatchNorm and a linear layer, with dropout where asked for."""

    def __init__(self, *, dropout: float = 0.0, width: int = 6, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.num_classes, self.feature_channels, self.embedding_dim = num_classes, (width,), width
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor, *, taps: bool = False) -> Output:
        features = torch.relu(self.norm(self.conv(images)))
        embedding = features.mean((2, 3))
        logits = self.classifier(self.dropout(embedding))
        return Output(logits, (features,), (None,), features, embedding) if taps else Output(logits)


class Learner(Objective):
    """An objective with a layer of its own, sized in `attach`, a buffer that learns, and noise."""

    def attach(self, student: nn.Module, teacher: nn.Module | None, task: Task) -> None:
        self.project = nn.Linear(student.num_classes, student.num_classes)
        self.register_buffer("memory", torch.zeros(student.num_classes))

    def forward(self, student, teacher, batch, progress):
        with torch.no_grad():
            self.memory.mul_(0.9).add_(student.logits.mean(0), alpha=0.1)
        noisy = student.logits + 0.1 * torch.randn(student.logits.shape)
        return {
            "ce": F.cross_entropy(noisy, batch.labels),
            "projected": F.mse_loss(self.project(student.logits), teacher.logits),
            "memory": 0.1 * (student.logits - self.memory).square().mean(),
        }


class Recorder:
    """A run directory in memory; what is saved is copied and goes through JSON, as on a disk."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.timings: list[dict] = []
        self.saved: list[tuple[dict, dict, int]] = []  # tensors, state, metrics lines at that time
        self.result: dict | None = None
        self.weights = b""
        self.failure: dict | None = None

    def log_epoch(self, metrics) -> None:
        self.lines.append(json.dumps(metrics))

    def log_timing(self, timing) -> None:
        self.timings.append(dict(timing))

    def save(self, tensors, state) -> None:
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.saved.append((copies, json.loads(json.dumps(state)), len(self.lines)))

    def finish(self, result, *, weights, averaged=None) -> None:
        self.result = json.loads(json.dumps(result))
        self.weights = safetensors.torch.save({k: v.detach().contiguous().clone() for k, v in weights.items()})
        self.averaged = averaged and {k: v.detach().clone() for k, v in averaged.items()}

    def fail(self, failure) -> None:
        self.failure = dict(failure)


class DueAt:
    """Checkpoints due at the given calls of `due`, counted from 1: one after every step, one at an epoch's end."""

    def __init__(self, *calls: int, always: bool = False) -> None:
        self.calls, self.always, self.asked = calls, always, 0

    def due(self) -> bool:
        self.asked += 1
        return self.always or self.asked in self.calls

    def saving(self):
        return nullcontext()


def make_recipe(epochs: int = 2, *, lr: float = 0.1, optimizer: Callable | None = None, **options) -> Recipe:
    """SGD with momentum, the learning rate falling after half of the epochs."""
    sgd = partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=5e-4)
    options = {"batch_size": 16, "reference_epochs": 240, "schedule": Steps((0.5,))} | options
    return Recipe(epochs=epochs, optimizer=optimizer or sgd, **options)


def network(seed: int = 1, **options) -> TinyNetwork:
    """A tiny network initialised from a seed."""
    with seeded(seed, "student"):
        return TinyNetwork(**options)


def soft_targets(temperature: float = 4.0, divergence: Callable = kd) -> SoftTargets:
    """KD as in the field's tables."""
    return SoftTargets(divergence=divergence, temperature=temperature, ce_weight=0.1, kd_weight=0.9)


@pytest.fixture(scope="session")
def dataset():
    """Four classes, 44 training images."""
    return synthetic(classes=CLASSES, train_size=44, test_size=21, image_size=8, pad=2)


@pytest.fixture
def teacher() -> LiveTeacher:
    """A wider network, not trained."""
    return LiveTeacher(network(99, width=9), weights="teacher", precision="fp32", taps=False)


@pytest.fixture
def ungraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No gradients are measured between epochs: what is counted is the steps'."""
    monkeypatch.setattr("distill.training.member.gradient_norms", lambda member: {})


@pytest.fixture
def lab(dataset) -> SimpleNamespace:
    """What the tests build members from."""

    def member(
        objective: Objective | None = None,
        *,
        seed: int = 1,
        teacher=None,
        student: nn.Module | None = None,
        recipe: Recipe | None = None,
        checkpoints=None,
        precision: str = "fp32",
        batch_size: int = 16,
        **options,
    ) -> Member:
        objective = CrossEntropy() if objective is None else objective
        return Member(
            name=f"member-{seed}",
            student=student if student is not None else network(seed),
            objective=objective,
            teacher=teacher,
            recipe=recipe or make_recipe(),
            stream=ImageStream(dataset, batch_size=batch_size, seed=seed, device=CPU, strong=objective.strong_view),
            evaluation=EvaluationStream(dataset, batch_size=8, device=CPU),
            split=dataset.split,
            precision=precision,
            seed=seed,
            recorder=Recorder(),
            checkpoints=checkpoints or DueAt(),
            **options,
        )

    def run(*members: Member, watch=None, **options) -> list[Recorder]:
        fit(members, watch=watch or Silent(), **options)
        return [member.recorder for member in members]

    def stop_after(steps: int) -> Callable[[], bool]:
        asked = 0

        def stop_requested() -> bool:
            nonlocal asked
            asked += 1
            return asked >= steps

        return stop_requested

    return SimpleNamespace(
        member=member,
        run=run,
        stop_after=stop_after,
        network=network,
        recipe=make_recipe,
        soft_targets=soft_targets,
        Learner=Learner,
        Recorder=Recorder,
        DueAt=DueAt,
        dataset=dataset,
        steps=3,
        batches=[16, 16, 12],
    )
