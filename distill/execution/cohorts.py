"""Which runs of a command can train side by side in one process, and whether their memory suffices."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from distill.config.plan import RunPlan
from distill.models.meta import meta_images
from distill.runs.layout import RESULT
from distill.runs.store import size_of


def cohorts(plans: Sequence[RunPlan], *, size: int) -> list[list[RunPlan]]:
    """Distinct runs in groups of at most `size` that can share a loop, in the order of their first member."""
    groups: dict[Hashable, list[RunPlan]] = {}
    for plan in {plan.run_id: plan for plan in plans}.values():
        groups.setdefault(_in_common(plan) if size > 1 else plan.run_id, []).append(plan)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


def _in_common(plan: RunPlan) -> Hashable:
    data = tuple((key, repr(value)) for key, value in sorted(plan.identity["data"].items()))
    engine = tuple((key, repr(value)) for key, value in sorted(plan.config["engine"].items()))
    return (data, plan.precision, plan.recipe.batch_size, plan.recipe.epochs, str(plan.device), engine)


def memory_warning(plans: Sequence[RunPlan]) -> str | None:
    """A sentence where training these runs side by side may need more main memory than is available; else None.

    A rough estimate: weights, gradients and optimizer states of every run, the activations of the largest one (on a
    CPU one run computes at a time). On a GPU an out-of-memory error halves the cohort instead.
    """
    waiting = [plan for plan in plans if not (plan.directory / RESULT).is_file()]
    available = _available_memory()
    if available is None or len(waiting) < 2 or waiting[0].device.type != "cpu":
        return None
    try:
        parts = [_training_bytes(plan) for plan in waiting]
    except Exception:  # a network of the user's own may not run without values: then there is no estimate
        return None
    needed = sum(weights for weights, _ in parts) + max(activations for _, activations in parts)
    if needed <= available:
        return None
    return (
        f"warning: {len(waiting)} runs side by side may take {size_of(needed)} of memory, {size_of(available)} are "
        "available: if they are killed, set hydra.launcher.size or recipe.batch_size lower"
    )


def _training_bytes(plan: RunPlan) -> tuple[int, int]:
    """Bytes of weights with gradients and optimizer state, and of the activations that a forward pass keeps."""
    network, kept = plan.network().to("meta").train(), 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(meta_images(plan.dataset.image_size, batch=plan.recipe.batch_size))
    return 4 * sum(each.numel() * each.element_size() for each in network.parameters()), kept


def _available_memory() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
