"""An objective on the shapes of its networks' outputs: whether the three fit together, before any work."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from distill.data import Batch
from distill.models import Network, Output, outline
from distill.objectives import Objective, Task

IMAGES = 2


def rehearse(
    objective: Objective, student: nn.Module, teacher: nn.Module | None, *, image_size: int, labels: Tensor
) -> dict[str, Tensor]:
    """Attach `objective` and run it once on the meta device; returns its terms, which have shapes and no values.

    The networks stay as they are and may be on any device. The objective cannot be used for anything else afterwards.

    Raises:
        ValueError: what the method says it lacks.
        Exception: whatever it raises where it does not foresee the shapes it meets.
    """
    deployed = objective.attach(student, teacher, Task(image_size, labels))
    seen = student if deployed is None else deployed
    outputs = [n if n is None else _both_views(n, image_size, objective.two_views) for n in (seen, teacher)]
    images = torch.empty(IMAGES, 3, image_size, image_size, device="meta")
    rows = torch.empty(IMAGES, dtype=torch.int64, device="meta")
    batch = Batch(images, rows, rows, rows, images if objective.two_views else None)
    terms = objective.to("meta")(*outputs, batch, torch.empty((), device="meta"))
    for name, term in terms.items():
        if term.shape != ():
            raise ValueError(f"the term {name} must be a scalar, got shape {tuple(term.shape)}: take its mean")
    return terms


def _both_views(network: nn.Module, image_size: int, two_views: bool) -> Output:
    output = outline(cast(Network, network), image_size=image_size, batch=IMAGES)
    return replace(output, strong=output) if two_views else output
