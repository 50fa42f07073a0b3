"""How many runs may train side by side, from the memory they take and the memory there is."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from distill.config.footprint import Footprint, footprint, shared_bytes
from distill.config.plan import RunPlan
from distill.execution.free_memory import free_bytes
from distill.execution.teacher import EVALUATION_BATCH
from distill.runs.layout import RESULT
from distill.runs.occupied import size_of

MOST = 16  # beyond it the share of a teacher's forward is small, and more would stop with one process
SHARE = 0.8  # of the free memory; workspaces, fragments of the allocator and other processes have the rest

Note = Callable[[str], None]


def fitting_size(plans: Sequence[RunPlan], *, note: Note) -> int:
    """Members of a cohort for which the memory suffices, between 1 and `MOST`, and a line that says so.

    Runs that are finished take none. Where the need or the memory cannot be known, it is `MOST`.
    """
    waiting = [plan for plan in plans if not (plan.directory / RESULT).is_file()]
    if not waiting:
        return MOST
    free = free_bytes(waiting[0].device)
    try:
        largest = [_known(plan) for plan in {_shape(plan): plan for plan in waiting}.values()]
        shared = shared_bytes(waiting)
    except Exception as error:  # of any method and any network; what is wrong with them is said when they run
        note(f"cohorts of up to {MOST}: the memory of a run is not known ({type(error).__name__}: {error})")
        return MOST
    kept, passing = max(each.kept for each in largest), max(each.passing for each in largest)
    # on a CPU one member computes at a time; on a GPU each may have streams and captured graphs of its own
    each, once = (kept, shared + passing) if waiting[0].device.type == "cpu" else (kept + passing, shared)
    return _told(each, once, free, note)


def _told(each: int, once: int, free: int | None, note: Note) -> int:
    need = f"about {size_of(each)} a run and {size_of(once)} in common"
    if free is None:
        note(f"cohorts of up to {MOST}: {need}; how much is free is not known")
        return MOST
    size = min(int((SHARE * free - once) // max(each, 1)), MOST)
    if size >= 1:
        note(f"cohorts of up to {size}: {need}, {size_of(free)} free")
        return size
    note(
        f"warning: a run takes about {size_of(each + once)}, more than {100 * SHARE:.0f} % of the {size_of(free)} that "
        "are free: runs go one by one and may fail; set recipe.batch_size lower"
    )
    return 1


def _known(plan: RunPlan) -> Footprint:
    return footprint(plan, evaluation_batch=EVALUATION_BATCH)


def _shape(plan: RunPlan) -> str:
    """Equal for runs that take equal memory: weights and temperatures, being fractions, change no shape."""
    teacher = None if plan.teacher is None else plan.teacher.config["student"]
    facts = [plan.config["student"], plan.config["loss"], plan.config["recipe"], teacher, plan.precision]
    data = [plan.dataset.image_size, plan.dataset.num_classes, len(plan.dataset.train_labels)]
    return json.dumps(_without_fractions([*facts, data]), sort_keys=True, default=repr)


def _without_fractions(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_fractions(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_fractions(value) for value in node]
    return None if isinstance(node, float) else node
