"""Planned runs from their locks to their results: skip, wait, resume or train, teachers first."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from distill.config.plan import RunPlan, epochs_asked, not_from_a_table, teacher_use
from distill.config.rebuild import weights_of
from distill.data import EvaluationStream, ImageStream
from distill.execution.engine import CannotCarryOut, carrying, way
from distill.execution.resuming import resume
from distill.execution.stopping import Interrupted, RunFailed, stop_signals
from distill.execution.teacher import EVALUATION_BATCH, MeasuredTeacher, measured_teacher
from distill.execution.teacher_table import choose_source
from distill.runs.checkpoint import Loaded
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError
from distill.runs.lock import Busy, RunLock
from distill.runs.provenance import byte_conditions, collect
from distill.runs.schedule import CheckpointSchedule
from distill.runs.store import RunRecord, finished_run
from distill.training import Member, Watch, determinism, fit

Result = Mapping[str, Any]
CHECKPOINT_SHARE = 0.02  # of a run's time
SOURCE, FOLDED = "teacher source", "teacher folded"  # among the conditions of a checkpoint


@dataclass(frozen=True)
class Console:
    """How a run speaks: `note` prints one line, `watch` follows training."""

    note: Callable[[str], None]
    watch: Watch


@dataclass
class Cohort:
    """Runs on their way into one call of `fit`, and how those ended that need no training."""

    retry: bool
    console: Console
    size: int
    asked: Mapping[str, int]
    members: dict[str, Member] = field(default_factory=dict)
    directories: dict[str, RunDirectory] = field(default_factory=dict)
    endings: dict[str, Result | Exception] = field(default_factory=dict)
    teachers: dict[object, MeasuredTeacher] = field(default_factory=dict)
    sources: dict[object, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def note_once(self, sentence: str) -> None:
        """Say what holds for all runs of the cohort."""
        if sentence not in self.told:
            self.told.add(sentence)
            self.console.note(sentence)


def execute(
    plans: Sequence[RunPlan],
    console: Console,
    *,
    retry: bool = False,
    wait: bool = False,
    asked: Mapping[str, int] | None = None,
) -> list[Result | Exception]:
    """How each run ended: its result, at once where it is finished already; else Busy, RunFailed or StorageError.

    Args:
        plans: one run, or runs that agree on data set, hold-out, precision, batch size and epochs.
        console: told what happens.
        retry: take up runs that failed before.
        wait: where another process holds a run, wait for it (and take over if it dies) instead of giving up.
        asked: what the whole command asks of each teacher (`epochs_asked`), where these are not all of its runs.

    Raises:
        Interrupted: the user stopped it; every member has saved its state.
    """
    distinct = {plan.run_id: plan for plan in plans}.values()
    cohort = Cohort(retry, console, len(distinct), {**epochs_asked([list(distinct)]), **(asked or {})})
    engine, device = plans[0].config["engine"], plans[0].device  # one of all: it makes no other run
    with ExitStack() as locks, determinism(engine["deterministic"], device):
        # who needs a teacher comes first: it trains that teacher before this process locks it as a run of its own
        for plan in sorted(distinct, key=lambda plan: plan.teacher is None):
            try:
                if plan.run_id not in cohort.endings:
                    _admit(plan, cohort, locks, wait=wait)
            except (Busy, RunFailed, StorageError) as error:
                cohort.endings[plan.run_id] = error
        if cohort.members:
            _train(cohort, engine, device)
    return [cohort.endings[plan.run_id] for plan in plans]


def _admit(plan: RunPlan, cohort: Cohort, locks: ExitStack, *, wait: bool) -> None:
    """Lock a run and make it a member, or note that it is finished."""
    directory, lock = RunDirectory(plan.directory), RunLock(plan.directory)
    if not directory.is_finished:
        locks.enter_context(lock)
        if wait:
            lock.wait(lambda who: cohort.console.note(f"waiting for {plan.directory.name}: {who} is training it"))
        elif not lock.acquire():
            raise Busy(f"{plan.directory} is being trained by {lock.holder()}: wait for it, or stop it first")
    if directory.is_finished:
        cohort.endings[plan.run_id] = _finished(plan).result or {}
        if not directory.is_tidy:  # a process was killed between its result and its end
            with suppress(StorageError):
                locks.enter_context(lock)
                if lock.acquire():
                    directory.tidy()
        return
    failure = directory.failure
    if failure is not None and not cohort.retry:
        raise RunFailed(f"{plan.directory} failed before: {failure['message']} (add --retry to try it again)")
    threads = plan.config["engine"]["threads"]
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = directory.load()
    teacher = _teacher(plan, cohort, loaded)
    if cohort.retry:
        directory.clear_failure()
    first = None if plan.first_stage is None else _trained(plan.first_stage, cohort, what="first stage")
    _begin(plan, directory, loaded, teacher, first, cohort)


def _begin(
    plan: RunPlan,
    directory: RunDirectory,
    loaded: Loaded | None,
    teacher: MeasuredTeacher | None,
    first: RunRecord | None,
    cohort: Cohort,
) -> None:
    """Open the run's folder, build the member and put it where its last checkpoint stands."""
    facts = None if teacher is None else teacher.facts
    source = {} if facts is None else {SOURCE: facts["source"], FOLDED: facts.get("folded", False)}
    batch_size = plan.recipe.batch_size
    objective = plan.objective()
    stream = ImageStream(
        plan.dataset, batch_size=batch_size, seed=plan.seed, device=plan.device, strong=objective.strong_view
    )
    member = Member(
        name=plan.directory.name,
        student=plan.network().to(plan.device),
        objective=objective.to(plan.device),
        teacher=teacher.network if teacher is not None and objective.needs_teacher else None,
        recipe=plan.recipe,
        stream=stream,
        evaluation=EvaluationStream(plan.dataset, batch_size=EVALUATION_BATCH, device=plan.device),
        split=plan.dataset.split,
        precision=plan.precision,
        seed=plan.seed,
        recorder=directory,
        checkpoints=CheckpointSchedule(
            plan.config["engine"]["checkpoint_seconds"],
            share=CHECKPOINT_SHARE / cohort.size,  # all members together
        ),
        facts={"classes": plan.dataset.num_classes, "image_size": plan.dataset.image_size, "teacher": facts},
        first_stage=None if first is None else weights_of(first),
    )
    engine = plan.config["engine"]
    step = way(engine, plan.device, member)
    member.conditions |= byte_conditions(plan.device, precision=plan.precision, **source, **step)
    for note in plan.notes:
        cohort.note_once(note)
    directory.start(
        config={
            "run_id": plan.run_id,
            "names": dict(plan.names),
            "config": dict(plan.config),
            "identity": dict(plan.identity),
        },
        provenance=collect(plan.device, precision=plan.precision, engine=dict(engine), step=step, teacher=facts),
    )
    if loaded is not None:
        resume(member, loaded, directory, cohort.console.note)
    directory.rewind(member.epoch - 1)
    cohort.members[plan.run_id], cohort.directories[plan.run_id] = member, directory


def _train(cohort: Cohort, engine: Mapping[str, Any], device: torch.device) -> None:
    members, fault = list(cohort.members.values()), None
    try:
        with stop_signals() as stop_requested, carrying(members, engine, device, cohort.console.note) as way_of_steps:
            fit(members, watch=cohort.console.watch, stop_requested=stop_requested, engine=way_of_steps)
    except CannotCarryOut as error:
        fault = error
    for run_id, member in cohort.members.items():
        directory = cohort.directories[run_id]
        if isinstance(member.error, StorageError):
            cohort.endings[run_id] = member.error
        elif member.error is not None:
            cohort.endings[run_id] = RunFailed(f"{directory.path}: {member.error}")
        elif member.active and fault is not None:
            cohort.endings[run_id] = RunFailed(f"{directory.path}: {fault}")
        elif member.active:
            raise Interrupted(f"stopped at epoch {member.epoch}, step {member.step}: type the command again to go on")
        else:
            cohort.endings[run_id] = directory.result or {}


def _teacher(plan: RunPlan, cohort: Cohort, loaded: Loaded | None) -> MeasuredTeacher | None:
    """The plan's teacher, trained first where no finished run has it; shared by the cohort.

    A run that is taken up keeps the source it began with.
    """
    if plan.teacher is None:
        return None
    record = _trained(plan.teacher, cohort, what="teacher") if isinstance(plan.teacher, RunPlan) else plan.teacher
    use = teacher_use(plan)
    kept = None if loaded is None else loaded.state.get("conditions", {}).get(SOURCE, "live")
    choice = (use, not_from_a_table(plan.objective()), plan.config["teacher"]["source"], kept)
    if choice not in cohort.sources:
        epochs = cohort.asked.get(use, plan.recipe.epochs)
        cohort.sources[choice] = choose_source(plan, record, kept=kept, epochs=epochs, note=cohort.console.note)
    source = cohort.sources[choice]
    key = (plan.teacher.run_id, plan.config["teacher"]["precision"], plan.objective().logits_only, source)
    if key not in cohort.teachers:
        cohort.teachers[key] = measured_teacher(plan, record, source=source, note=cohort.console.note)
    return cohort.teachers[key]


def _trained(plan: RunPlan, cohort: Cohort, *, what: str) -> RunRecord:
    """The finished run of a teacher or first stage; where there is none it is trained, once, also when that fails."""
    if plan.run_id not in cohort.endings:
        if not RunDirectory(plan.directory).is_finished:
            cohort.console.note(f"{what} {plan.directory.name} is needed first")
        (ending,) = execute([plan], cohort.console, retry=cohort.retry, wait=True, asked=cohort.asked)
        cohort.endings[plan.run_id] = ending
    failure = cohort.endings[plan.run_id]
    if isinstance(failure, Exception):
        raise RunFailed(f"there is no {what}: {failure}") from failure
    return _finished(plan)


def _finished(plan: RunPlan) -> RunRecord:
    """What the folder of a finished run says. Raises StorageError where it is damaged."""
    try:
        return finished_run(plan.directory.parent, str(plan.directory), weights=False)
    except (ValueError, StorageError) as error:
        raise StorageError(f"{error}; restore it, or delete the folder to train the run again") from error
