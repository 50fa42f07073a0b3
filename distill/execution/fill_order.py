"""What is trained next: half-trained runs, then teachers, then one seed of every cell, as far as time allows."""

from collections.abc import Callable, Hashable, Sequence
from enum import Enum

from distill.config.plan import RunPlan, teacher_identity
from distill.execution.cohort import cohorts
from distill.execution.fill_jobs import Job
from distill.runs.layout import FAILED, LAST, PREVIOUS, RESULT
from distill.runs.store import damage, read_run

SIZE = 8  # runs side by side at most: each takes memory, and all of them share the time


class State(Enum):
    """Where a run stands on the disk."""

    FINISHED = "finished"
    DAMAGED = "damaged"
    FAILED = "failed"
    HALF = "half-trained"
    MISSING = "missing"


def state(plan: RunPlan) -> State:
    """What the run's folder says."""
    if (plan.directory / RESULT).is_file():
        record = read_run(plan.directory)
        return State.DAMAGED if record is None or damage(record) else State.FINISHED
    if (plan.directory / FAILED).is_file():
        return State.FAILED
    half = any((plan.directory / name).is_file() for name in (LAST, PREVIOUS))
    return State.HALF if half else State.MISSING


def groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """All jobs in the cohorts that they make when nothing interrupts them.

    Runs of one round that share a teacher, and with it the forward on every batch, train side by side; on a GPU, where
    a single small network leaves most of the device idle, others do too.
    """
    together: dict[Hashable, list[Job]] = {}
    for job in jobs:
        together.setdefault((job.round, job.kind, *_shared(job)), []).append(job)
    by_id = {job.plan.run_id: job for job in jobs}
    found = [cohorts([job.plan for job in group], size=SIZE) for group in together.values()]
    return [[by_id[plan.run_id] for plan in plans] for cohort in found for plans in cohort]


def _shared(job: Job) -> tuple[Hashable, ...]:
    if job.plan.device.type == "cuda":
        return ()
    return (job.plan.run_id,) if job.plan.teacher is None else (str(teacher_identity(job.plan.teacher)), job.plan.seed)


def ready(jobs: Sequence[Job], closed: frozenset[str]) -> list[Job]:
    """The jobs still to be done whose teachers are finished, half-trained ones first; `closed` ids are left alone."""
    states = {job.plan.run_id: state(job.plan) for job in jobs}
    still = [
        job
        for job in jobs
        if states[job.plan.run_id] is not State.FINISHED
        and job.plan.run_id not in closed
        and all(states[need] is State.FINISHED for need in job.needs)
    ]
    return sorted(still, key=lambda job: (states[job.plan.run_id] is not State.HALF, job.rank))


def next_cohort(waiting: Sequence[Job], *, seconds: Callable[[RunPlan], float], left: float) -> list[Job]:
    """The first cohort of which an epoch fits into `left` seconds, with as many members as fit; empty for none.

    Args:
        waiting: jobs that can be started, the first first.
        seconds: of a run's epoch.
        left: what there is.
    """
    half = [job for job in waiting if state(job.plan) is State.HALF]
    fresh = [job for job in waiting if job not in half]
    for group in (*groups(half), *groups(fresh)):
        members, spent = [], 0.0
        for job in group:
            if spent + seconds(job.plan) <= left:
                members.append(job)
                spent += seconds(job.plan)
        if members:
            return members
    return []
