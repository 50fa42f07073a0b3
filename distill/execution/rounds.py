"""The runs that fill a table, in rounds: the order in which they train, what is left of them, and how long it takes."""

import json
import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import torch

from distill.config.plan import RunPlan
from distill.execution.execute import cohorts
from distill.execution.progress import duration
from distill.runs.files import StorageError, read_json
from distill.runs.layout import FAILED, LAST, PREVIOUS, PROVENANCE
from distill.runs.provenance import device_name
from distill.runs.store import RunRecord, damage, read_run, scan
from hydra_plugins.distill_cohort.launcher import CohortConfig

UNKNOWN_TIME = "time unknown: no run of this pair has finished on this device"
TEACHER, FIRST_STAGE, STUDENT = range(3)  # the order of training within a round


@dataclass(frozen=True, eq=False)
class Job:
    """A run to be trained: its round (one seed of every cell), its kind, and its place in the table.

    `needs` are the ids of the runs that have to be finished first.
    """

    plan: RunPlan
    round: int
    kind: int
    place: int
    needs: frozenset[str]

    @property
    def rank(self) -> tuple[int, int, int]:
        """The order of training, the most informative first."""
        return self.round, self.kind, self.place


class State(Enum):
    """What a run's folder holds."""

    FINISHED = "finished"
    DAMAGED = "damaged"
    FAILED = "failed"
    HALF = "half-trained"
    MISSING = "missing"


def in_order(plans: Sequence[Mapping[int, RunPlan]]) -> list[Job]:
    """Every distinct run once, with its earliest rank, and the runs that it needs before it."""
    jobs: dict[str, Job] = {}
    for place, runs in enumerate(plans):
        for number, plan in runs.items():
            for job in _with_needs(plan, number, place):
                known = jobs.get(job.plan.run_id)
                if known is None or job.rank < known.rank:
                    jobs[job.plan.run_id] = job
    return sorted(jobs.values(), key=lambda job: job.rank)


def _with_needs(plan: RunPlan, number: int, place: int) -> Iterator[Job]:
    needs = []
    first = None if plan.teacher is None else plan.teacher.plan
    teacher, stage = (each if _is_needed(each, plan) else None for each in (first, plan.first_stage))
    if teacher is not None:
        yield Job(teacher, number, TEACHER, place, frozenset())
        needs.append(teacher.run_id)
    if stage is not None:
        yield Job(stage, number, FIRST_STAGE, place, frozenset(needs))
        needs.append(stage.run_id)
    yield Job(plan, number, STUDENT, place, frozenset(needs))


def _is_needed(first: RunPlan | None, plan: RunPlan) -> bool:
    """Whether a run is here or has to be trained: a finished student from another store needs no new teacher."""
    if first is None:
        return False
    return first.is_finished or not plan.is_finished


def state(plan: RunPlan) -> State:
    """The state of a run by the files in its folder."""
    if plan.is_finished:
        record = read_run(plan.directory)
        return State.DAMAGED if record is None or damage(record) else State.FINISHED
    if (plan.directory / FAILED).is_file():
        return State.FAILED
    half = any((plan.directory / name).is_file() for name in (LAST, PREVIOUS))
    return State.HALF if half else State.MISSING


def open_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Those that are not finished."""
    return [job for job in jobs if state(job.plan) is not State.FINISHED]


def groups(jobs: Sequence[Job], *, size: int = CohortConfig.size) -> list[list[Job]]:
    """All jobs in the cohorts, of at most `size` runs, that they form when nothing interrupts them.

    Runs of one round that share a teacher, and so its forward on every batch, train side by side; on a GPU, where a
    single small network leaves most of the device idle, other runs of the round do too.
    """
    together: dict[Hashable, list[Job]] = {}
    for job in jobs:
        together.setdefault((job.round, job.kind, *_shared(job)), []).append(job)
    by_id = {job.plan.run_id: job for job in jobs}
    found = [cohorts([job.plan for job in group], size=size) for group in together.values()]
    return [[by_id[plan.run_id] for plan in plans] for cohort in found for plans in cohort]


def _shared(job: Job) -> tuple[Hashable, ...]:
    if job.plan.device.type == "cuda":
        return ()
    return (job.plan.run_id,) if job.plan.teacher is None else (str(job.plan.identity["teacher"]), job.plan.seed)


def ready(jobs: Sequence[Job], closed: frozenset[str]) -> list[Job]:
    """The open jobs whose teachers are finished, half-trained ones first; without those whose id is in `closed`."""
    states = {job.plan.run_id: state(job.plan) for job in jobs}
    still = [
        job
        for job in jobs
        if states[job.plan.run_id] is not State.FINISHED
        and job.plan.run_id not in closed
        and all(states[need] is State.FINISHED for need in job.needs)
    ]
    return sorted(still, key=lambda job: (states[job.plan.run_id] is not State.HALF, job.rank))


def next_cohort(waiting: Sequence[Job], *, size: int = CohortConfig.size) -> list[Job]:
    """The jobs to be trained next, side by side: half-trained ones before others; empty where none is waiting."""
    half = [job for job in waiting if state(job.plan) is State.HALF]
    return next(iter(groups(half or waiting, size=size)), [])


def remaining(jobs: Sequence[Job], times: Mapping[str, float]) -> str:
    """Epochs and images that the runs have yet to train, and the time where finished runs have measured it."""
    every, images, seconds, unknown = 0, 0, 0.0, 0
    for job in jobs:
        epochs = job.plan.epochs_left
        every += epochs
        images += epochs * len(job.plan.dataset.train_labels)
        seconds += epochs * times.get(job.plan.run_id, 0.0)
        unknown += job.plan.run_id not in times
    work = f"{every:,} epoch{'s' * (every != 1)}, {images:,} images"
    if unknown == len(jobs):
        return f"{work}, {UNKNOWN_TIME}"
    others = f", and {unknown} runs of unknown time" if unknown else ""
    return f"{work}, about {duration(seconds)}{others}"


def measured_times(jobs: Sequence[Job]) -> dict[str, float]:
    """Seconds of an epoch by run id, from runs trained here of the same networks on the same data and device."""
    plan = jobs[0].plan
    threads = plan.config["engine"]["threads"] or torch.get_num_threads()
    found: dict[str, list[float]] = {}
    with suppress(StorageError):  # without a readable store nothing is known
        for record in scan(plan.runs_dir):
            with suppress(StorageError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
                provenance = read_json(record.path / PROVENANCE) or {}
                same_threads = plan.device.type != "cpu" or provenance["threads"] == threads
                if (
                    record.result
                    and record.result["seconds"]
                    and provenance["device"] == device_name(plan.device)
                    and same_threads
                ):
                    seconds = record.result["seconds"] / record.result["last"]["epoch"]
                    found.setdefault(_pair(record), []).append(seconds)
    known = {job.plan.run_id: found.get(_pair(job.plan)) for job in jobs}
    return {run: statistics.median(seconds) for run, seconds in known.items() if seconds}


def _pair(run: RunPlan | RunRecord) -> str:
    """Everything except the device that the time of an epoch depends on, as text."""
    teacher = (run.config.get("teacher") or {}).get("network")
    data, precision = run.identity["data"], run.identity["precision"]
    return json.dumps([run.config["student"], teacher, run.names.get("teacher"), data, precision], sort_keys=True)
