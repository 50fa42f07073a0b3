"""The cohort launcher: runs of a sweep that agree on data, precision, batch size and epochs share a process."""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from distill.config.plan import RunPlan, epochs_asked
from distill.execution.cohort_size import MOST, fitting_size
from distill.execution.jobs import Outcome, plan_job, run_plans


def launch(configs: Sequence[DictConfig], task: Any, *, size: int | None) -> list[JobReturn]:
    """Train the composed jobs in cohorts of at most `size`; their outcomes come in the order of `configs`.

    Args:
        configs: jobs with their `hydra` node, as the sweeper composes them.
        task: the sweep's task function, whose keywords `config_dir` and `retry` apply here too.
        size: members trained side by side at most; None: as many as the memory allows, and not above `MOST`.
    """
    if size is not None and size < 1:
        raise ValueError(f"hydra.launcher.size must be >= 1, got {size}")
    options = task.keywords
    planned = [plan_job(config, config.hydra, options["config_dir"]) for config in configs]
    outcomes: dict[str, Outcome] = {}
    plans = [plan for plan in planned if isinstance(plan, RunPlan)]
    # free memory may be another when the command is typed again; where teachers come from must not change with it
    asked = epochs_asked(cohorts(plans, size=size or MOST))
    if size is None:
        size = fitting_size(plans, note=partial(print, flush=True))
    for group in cohorts(plans, size=size):
        for plan, outcome in zip(group, run_plans(group, retry=options["retry"], asked=asked), strict=True):
            outcomes[plan.run_id] = outcome
    returns = []
    for job in planned:
        done = JobReturn(status=JobStatus.COMPLETED)
        done.return_value = job if isinstance(job, Outcome) else outcomes[job.run_id]
        returns.append(done)
    return returns


def cohorts(plans: Sequence[RunPlan], *, size: int) -> list[list[RunPlan]]:
    """Distinct runs in groups that can share a loop, in the order of their first member."""
    groups: dict[Hashable, list[RunPlan]] = {}
    for plan in {plan.run_id: plan for plan in plans}.values():
        groups.setdefault(_common(plan), []).append(plan)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


def _common(plan: RunPlan) -> Hashable:
    data = tuple((key, repr(value)) for key, value in sorted(plan.identity["data"].items()))
    engine = tuple((key, repr(value)) for key, value in sorted(plan.config["engine"].items()))  # one carries out all
    return (data, plan.precision, plan.recipe.batch_size, plan.recipe.epochs, str(plan.device), engine)
