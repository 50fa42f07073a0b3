"""How much memory a run takes to train, known before it starts: one step and an evaluation on the meta device."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from distill.config.live_bytes import LiveBytes
from distill.config.plan import RunPlan, not_from_a_table
from distill.config.rebuild import rebuild_network
from distill.data import Batch, ImageDataset
from distill.losses import Objective, Task
from distill.models import Network, Output
from distill.teachers.row_code import row_width
from distill.training import seeded


@dataclass(frozen=True)
class Footprint:
    """Bytes of one run, teacher and data set apart.

    kept     for as long as it trains: weights, gradients, the optimizer's state, buffers, a batch and what the
             teacher says of it
    passing  besides, at the highest point of a step (activations kept for backward), of an evaluation, or of the
             teacher's forward
    """

    kept: int
    passing: int


def footprint(plan: RunPlan, *, evaluation_batch: int) -> Footprint:
    """What a run takes in memory, from the shapes of its tensors: kernels' workspaces and allocators come on top.

    In bf16 the activations are counted at half their size, and the weights once more as autocast copies them.

    Raises:
        Exception: whatever the run's own parts raise on tensors without values.
    """
    guide = _guide(plan)
    student, objective = _attached(plan, guide)
    optimizer = plan.recipe.optimizer(list(dict.fromkeys([*student.parameters(), *objective.parameters()])))
    size = plan.dataset.image_size
    weights = bytes_of(student) + bytes_of(objective)
    progress = torch.zeros((), device="meta")

    def step() -> None:
        output = _asked(student, batch, taps=not objective.logits_only)
        terms = objective(output, taught, batch, progress)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack([*terms.values()]).sum())
        optimizer.step()

    with LiveBytes() as live:
        batch = _batch(plan.recipe.batch_size, size, two_views=objective.two_views)
        with torch.no_grad():
            taught = None if guide is None else _asked(guide, batch, taps=not objective.logits_only)
        asking = live.peak - live.now
        step()  # afterwards there are gradients and the optimizer's state
        kept = live.peak = live.now
        step()
        # between epochs the gradient of each term is measured, on copies and beside those of the last step
        measuring = live.peak - kept + weights + bytes_of(student)
        with torch.no_grad():
            student.eval()(_images(min(evaluation_batch, len(plan.dataset.evaluation_labels)), size))
        passing = max(live.peak - kept, asking, measuring)
    if plan.precision == "bf16":
        passing = (passing + weights) // 2
    return Footprint(kept + weights, passing)


def shared_bytes(plans: Iterable[RunPlan]) -> int:
    """Bytes that runs side by side have in common: images, teachers (as they are, and folded), tables on a GPU."""
    parts: dict[object, int] = {}
    for plan in plans:
        data = plan.dataset
        parts["data", data.digest["train"], data.holdout, data.pad, data.flip] = _resident(data)
        if plan.teacher is None:
            continue
        teacher = ("teacher", plan.teacher.run_id)
        if teacher not in parts:
            guide = _guide(plan)
            parts[teacher] = 0 if guide is None else 2 * bytes_of(guide)
        tabled = plan.config["teacher"]["source"] != "live" and not_from_a_table(plan.objective()) is None
        if tabled and plan.device.type == "cuda":
            rows = len(data.train_labels) * data.num_views
            parts["table", plan.teacher.run_id] = rows * 2 * row_width(data.num_classes)
    return sum(parts.values())


def bytes_of(module: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _guide(plan: RunPlan) -> nn.Module | None:
    """The teacher's network on the meta device."""
    if plan.teacher is None or not plan.objective().needs_teacher:
        return None
    network = plan.teacher.network() if isinstance(plan.teacher, RunPlan) else rebuild_network(plan.teacher)
    return network.to("meta").eval().requires_grad_(False)


def _attached(plan: RunPlan, guide: nn.Module | None) -> tuple[nn.Module, Objective]:
    """What is trained, and its objective, on the meta device."""
    network, objective = plan.network().to("meta"), plan.objective()
    with seeded(plan.seed, "attach"):
        task = Task(plan.dataset.image_size, torch.tensor(plan.dataset.train_labels))
        deployed = objective.attach(network, guide, task)
    return (network if deployed is None else deployed).to("meta").train(), objective.to("meta").train()


def _images(count: int, size: int) -> Tensor:
    return torch.empty(count, size, size, 3, device="meta").permute(0, 3, 1, 2)


def _batch(count: int, size: int, *, two_views: bool) -> Batch:
    rows = torch.empty(count, dtype=torch.int64, device="meta")
    return Batch(_images(count, size), rows, rows, rows, _images(count, size) if two_views else None)


def _asked(network: nn.Module, batch: Batch, *, taps: bool) -> Output:
    output = cast(Network, network)(batch.images, taps=taps)
    if batch.strong is None:
        return output
    return replace(output, strong=cast(Network, network)(batch.strong, taps=taps))


def _resident(data: ImageDataset) -> int:
    """Bytes of the images as a device holds them, padded, with their mirror images."""

    def stored(labels: Any, *, pad: int, flip: bool) -> int:
        return len(labels) * ((1 + flip) * 3 * (data.image_size + pad) ** 2 + labels.itemsize)

    return stored(data.train_labels, pad=data.pad, flip=data.flip) + stored(data.evaluation_labels, pad=0, flip=False)
