"""The gradient of each loss term at the final weights of a finished run."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from distill.config.build import build_objective, sentences
from distill.config.faults import Refused
from distill.config.plan import split_stages
from distill.config.rebuild import Untrusted, only_ours
from distill.data import Batch, Dataset
from distill.losses import Objective, Task
from distill.models import on_both_views
from distill.runs.store import RunRecord
from distill.tables.statistics import summarize
from distill.tables.values import fields
from distill.teachers.live import with_batch_statistics

BATCHES = 8
_CE = "ce"


def term_gradients(
    record: RunRecord, network: nn.Module, teacher: nn.Module | None, dataset: Dataset, *, device: torch.device
) -> dict[str, Any]:
    """Norms of the gradients of the weighted terms, at the student's weights and at its logits.

    Over the first batches of the epoch that would have come next; BatchNorm as in training, fp32. Of each term the
    mean and sample standard deviation over the batches (None of one batch), and the mean cosine between its gradient at
    the weights and that of `ce` (None without such a term).

    Args:
        record: a finished run.
        network: its network with its weights, which stays as it is.
        teacher: its teacher's network on the same device, None where it is not at hand.

    Raises:
        ValueError: why it cannot be measured, as a sentence without the run's name.
    """
    student = copy.deepcopy(network).to(device).train()
    objective = _objective(record, student, teacher, dataset).to(device).train()
    if teacher is not None:
        teacher = with_batch_statistics(teacher) if objective.teacher_batch_statistics else teacher.eval()
    recipe = record.config["recipe"]
    stream = dataset.stream(
        batch_size=int(recipe["batch_size"]),
        seed=int(record.identity["seed"]),
        device=device,
        strong=objective.strong_view if objective.two_views else None,
    )
    progress = torch.tensor(float(recipe["reference_epochs"]), device=device)
    batches = list(islice(stream.epoch(int(recipe["epochs"]) + 1), BATCHES))
    found = [_measured(objective, student, teacher, batch, progress) for batch in batches]
    return {
        "batches": len(batches),
        "batch_size": stream.batch_size,
        "terms": {term: _summary([each[term] for each in found]) for term in found[0]},
    }


def _objective(record: RunRecord, student: nn.Module, teacher: nn.Module | None, dataset: Dataset) -> Objective:
    """The run's objective, attached. Raises ValueError where it cannot be what it was at the end of training."""
    loss, _ = split_stages(record.config.get("loss"))
    try:
        objective = build_objective(only_ours(loss, record), seed=0)
    except Untrusted as error:
        raise ValueError("its method is not one of this package") from error
    except Refused as error:
        raise ValueError(f"its method cannot be built: {error.sentences[0]}") from error
    if objective.deploys:
        raise ValueError("its method deployed a network of its own")
    if objective.needs_teacher and teacher is None:
        raise ValueError("its teacher is not at hand")
    try:
        objective.attach(student, teacher, Task(dataset.image_size, torch.tensor(dataset.train_labels)))
    except ValueError as error:
        raise ValueError(sentences(error)[0]) from error
    objective.smooth_labels(float((record.config.get("recipe") or {}).get("label_smoothing") or 0.0))
    if any(True for _ in objective.parameters()) or any(True for _ in objective.buffers()):
        raise ValueError("what its method learned or remembered beside the student is not kept with a finished run")
    return objective


def _measured(
    objective: Objective, student: nn.Module, teacher: nn.Module | None, batch: Batch, progress: Tensor
) -> dict[str, dict[str, float | None]]:
    """Of each term the norms on one batch, and the cosine to ce."""
    taps = not objective.logits_only
    with torch.no_grad():
        target = None if teacher is None else on_both_views(teacher, batch.images, batch.strong, taps=taps)
    output = on_both_views(student, batch.images, batch.strong, taps=taps)
    terms = objective(output, target, batch, progress)
    parameters = [each for each in student.parameters() if each.requires_grad]
    gradients = {term: list(_gradients(value, [*parameters, output.logits])) for term, value in terms.items()}
    weights = {term: torch.cat([each.flatten() for each in found[:-1]]) for term, found in gradients.items()}
    return {
        term: {
            "weights": float(weights[term].norm()),
            "logits": float(found[-1].norm()),
            "cosine_to_ce": _cosine(weights[term], weights[_CE]) if _CE in weights else None,
        }
        for term, found in gradients.items()
    }


def _gradients(term: Tensor, places: Sequence[Tensor]) -> Iterator[Tensor]:
    found = torch.autograd.grad(term, places, retain_graph=True, allow_unused=True)
    for place, gradient in zip(places, found, strict=True):
        yield torch.zeros_like(place) if gradient is None else gradient


def _cosine(one: Tensor, other: Tensor) -> float | None:
    size = float(one.norm() * other.norm())
    return float(one @ other) / size if size > 0 else None


def _summary(batches: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    cosines = [each["cosine_to_ce"] for each in batches if each["cosine_to_ce"] is not None]
    norms = {key: [each[key] or 0.0 for each in batches] for key in ("weights", "logits")}
    return {
        **{key: fields(summarize(values), "mean", "deviation") for key, values in norms.items()},
        "cosine_to_ce": fmean(cosines) if cosines else None,
    }
