"""What the feature and relation objectives share: the term of the labels, the teacher's side, the shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from distill.losses.logit import cross_entropy
from distill.models import Network, outline
from distill.objectives.needs import need_embedding, need_features, need_teacher

if TYPE_CHECKING:
    from distill.data import Batch
    from distill.models import Output
    from distill.objectives.objective import Task


def label_term(student: Output, batch: Batch, *, ce_weight: float) -> dict[str, Tensor]:
    """The term `ce`, weighted; no term where its weight is 0."""
    if ce_weight == 0:
        return {}
    return {"ce": ce_weight * cross_entropy(student.logits, batch.labels)}


def given(teacher: Output | None) -> Output:
    """The teacher's output; ValueError where an objective was given none. What is read of it must be detached."""
    if teacher is None:
        raise ValueError("teacher must be an output, got None: this objective needs one, choose teacher=NAME")
    return teacher


def last_maps(student: Output, teacher: Output | None) -> tuple[Tensor, Tensor]:
    """The deepest taps (B, C, H, W); the teacher's is cut from its graph."""
    maps = need_features(student, of="the student")[-1], need_features(given(teacher), of="the teacher")[-1]
    return maps[0], maps[1].detach()


def embeddings(student: Output, teacher: Output | None) -> tuple[Tensor, Tensor]:
    """What the two classifiers read, (B, D) each; the teacher's is cut from its graph."""
    pair = need_embedding(student, of="the student"), need_embedding(given(teacher), of="the teacher")
    return pair[0], pair[1].detach()


def outlines(student: nn.Module, teacher: nn.Module | None, task: Task) -> tuple[Output, Output]:
    """The shapes of what the two networks give for the task's images; ValueError without a teacher."""
    networks = cast(Network, student), cast(Network, need_teacher(teacher))
    first, second = (outline(network, image_size=task.image_size) for network in networks)
    return first, second


def need_taps(student: Output, teacher: Output, *, least: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The taps of both; ValueError where one has fewer than `least`."""
    return need_features(student, of="the student", least=least), need_features(teacher, of="the teacher", least=least)
