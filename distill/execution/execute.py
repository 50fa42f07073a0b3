"""Carries out run plans, side by side where they can: skips, waits for, resumes or trains each; teachers first."""

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from distill.config.own_code import OWN_CODE
from distill.config.plan import RunPlan, not_from_a_table, teacher_epochs_of, teacher_use
from distill.config.rebuild import weights_of
from distill.data import UnreadableImage, set_workers
from distill.execution.engines import EngineError, numeric_settings, step_engine
from distill.execution.stopping import EndedEarly, Interrupted, RunFailed, stop_signals
from distill.execution.teachers import MeasuredTeacher, choose_source, evaluation_batch, measured_teacher
from distill.runs.checkpoint import SHARE, CheckpointSchedule, Loaded
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError
from distill.runs.lock import Busy, RunLock
from distill.runs.provenance import byte_conditions, collect, why_bytes_differ
from distill.runs.store import RunRecord
from distill.training import (
    Member,
    ProcessLost,
    Watch,
    World,
    determinism,
    fit,
    this_world,
)

Result = Mapping[str, Any]
SOURCE, FOLDED = "teacher source", "teacher folded"  # among the conditions of a checkpoint


@dataclass(frozen=True)
class Console:
    """Where a run reports: `note` prints one line, `watch` follows training."""

    note: Callable[[str], None]
    watch: Watch


@dataclass
class Cohort:
    """Runs that train side by side in one call of `fit`, and how runs ended.

    `teacher_epochs` are the epochs of forwards that the whole command needs of each teacher (see `teacher_epochs_of`),
    `size` is the number of runs that train at the moment.
    """

    retry: bool
    console: Console
    teacher_epochs: Mapping[str, int]
    world: World
    size: int = 1
    members: dict[str, Member] = field(default_factory=dict)
    directories: dict[str, RunDirectory] = field(default_factory=dict)
    endings: dict[str, Result | Exception] = field(default_factory=dict)
    teachers: dict[object, MeasuredTeacher] = field(default_factory=dict)
    sources: dict[object, str] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    def note_once(self, sentence: str) -> None:
        """Print what holds for all runs of the cohort, once."""
        if sentence not in self.noted:
            self.noted.add(sentence)
            self.console.note(sentence)


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


def execute(
    plans: Sequence[RunPlan],
    console: Console,
    *,
    retry: bool = False,
    wait: bool = False,
    teacher_epochs: Mapping[str, int] | None = None,
) -> list[Result | Exception]:
    """Train the runs side by side; returns for each its result, or the Busy, RunFailed or StorageError it ended with.

    A finished run is not trained again. If they do not fit into the GPU's memory, two halves are trained in turn.

    Args:
        plans: one run, or runs that agree on data set, hold-out, precision, batch size and epochs.
        console: receives what happens.
        retry: train runs again that failed before.
        wait: wait for a run that another process holds (and take over if that process dies) instead of giving up.
        teacher_epochs: what the whole command needs of each teacher (`teacher_epochs_of`), if it has other runs too.

    Raises:
        Interrupted: training was stopped; every member has saved its state.
    """
    distinct = list({plan.run_id: plan for plan in plans}.values())
    epochs = {**teacher_epochs_of([distinct]), **(teacher_epochs or {})}
    cohort = Cohort(retry, console, epochs, this_world())
    groups = [distinct]
    while groups:
        group = groups.pop(0)
        try:
            _train_together(group, cohort, wait=wait)
        except torch.OutOfMemoryError as error:
            if cohort.world.size > 1:  # the others wait for this process
                lacking = f"process {cohort.world.rank} of {cohort.world.size} ran out of memory on {group[0].device}"
                raise ProcessLost(f"{lacking}: set recipe.batch_size lower, or use more devices") from error
            half = (len(group) + 1) // 2
            if group is distinct and len(group) > 1:
                device, count = group[0].device, len(group)
                console.note(f"out of memory on {device} with {count} runs side by side: now {half} at a time")
                groups = [group[:half], group[half:]]
            else:
                _end_without_memory(group, cohort)
        cohort.members.clear()
        cohort.directories.clear()
        if group[0].device.type == "cuda":
            gc.collect()  # members refer to each other in cycles
            torch.cuda.empty_cache()
    return [cohort.endings[plan.run_id] for plan in plans]


def _end_without_memory(plans: Sequence[RunPlan], cohort: Cohort) -> None:
    remedy = "recipe.batch_size" if len(plans) == 1 else "hydra.launcher.size or recipe.batch_size"
    for plan in plans:
        sentence = f"{plan.directory}: out of memory on {plan.device}: set {remedy} lower"
        cohort.endings.setdefault(plan.run_id, RunFailed(sentence))


def _train_together(plans: Sequence[RunPlan], cohort: Cohort, *, wait: bool) -> None:
    """Bring every run to its end in `cohort.endings`."""
    engine, device = plans[0].config["engine"], plans[0].device  # the same for all members
    cohort.size = max(1, sum(not plan.is_finished for plan in plans))
    with ExitStack() as locks, determinism(engine["deterministic"], device):
        # runs with a teacher come first: they train that teacher before this process locks it as one of the plans
        for plan in sorted(plans, key=lambda plan: plan.teacher is None):
            try:
                if plan.run_id not in cohort.endings:
                    _admit(plan, cohort, locks, wait=wait)
            except (Busy, RunFailed, StorageError) as error:
                cohort.endings[plan.run_id] = error
            except UnreadableImage as error:  # while its teacher was measured
                cohort.endings[plan.run_id] = RunFailed(f"{plan.directory}: {error}")
        if cohort.members:
            _train(cohort, engine, device)


def _admit(plan: RunPlan, cohort: Cohort, locks: ExitStack, *, wait: bool) -> None:
    """Lock a run and make it a member, or note that it is finished."""
    directory, world = RunDirectory(plan.directory), cohort.world
    lock = locks.enter_context(RunLock(plan.directory))
    result = world.first(lambda: _locked(plan, directory, lock, cohort, wait=wait))
    if result is not None:
        cohort.endings[plan.run_id] = result
        return
    threads = plan.config["engine"]["threads"]
    if threads is not None:
        torch.set_num_threads(threads)
    set_workers(plan.config["engine"]["workers"])
    loaded = world.first(directory.load)
    teacher = _teacher(plan, cohort, loaded)
    if cohort.retry:
        world.first(directory.clear_failure)
    first = None if plan.first_stage is None else _trained(plan.first_stage, cohort, what="first stage")
    _begin(plan, directory, loaded, teacher, first, cohort)


def _locked(plan: RunPlan, directory: RunDirectory, lock: RunLock, cohort: Cohort, *, wait: bool) -> Result | None:
    """Lock a run that is to be trained, and return None; or return the result of one that is finished.

    Raises:
        Busy: another process is training it.
        RunFailed: it failed before.
    """
    if not directory.is_finished:
        if wait:
            lock.wait(lambda who: cohort.console.note(f"waiting for {plan.directory.name}: {who} is training it"))
        elif not lock.acquire():
            raise Busy(f"{plan.directory} is being trained by {lock.holder()}: wait for it, or stop it first")
    if directory.is_finished:
        result = plan.finished().result or {}
        if not directory.is_tidy:  # a process was killed after it wrote the result
            with suppress(StorageError):
                if lock.acquire():
                    directory.tidy()
        return result
    failure = directory.failure
    if failure is not None and not cohort.retry:
        raise RunFailed(f"{plan.directory} failed before: {failure.get('message', '?')} (add --retry to try it again)")
    if plan.code_changed():
        names = ", ".join(plan.code)
        raise RunFailed(f"{plan.directory}: {names} changed while the command was at work: type it again")
    return None


def _begin(
    plan: RunPlan,
    directory: RunDirectory,
    loaded: Loaded | None,
    teacher: MeasuredTeacher | None,
    first: RunRecord | None,
    cohort: Cohort,
) -> None:
    """Open the run's folder, build the member and restore its last checkpoint."""
    facts = None if teacher is None else teacher.facts
    world = replace(cohort.world, local_norm=plan.recipe.batch_norm == "local")
    if plan.identity["recipe"].get("processes", world.size) != world.size:
        raise RunFailed(
            f"{plan.directory}: recipe.batch_norm=local makes the number of processes part of the run, which is "
            f"{world.size} and was not known when the command was checked: start the processes by torchrun"
        )
    source = {} if facts is None else {SOURCE: facts["source"], FOLDED: facts.get("folded", False)}
    member = _member(plan, directory, teacher, first, cohort, world)
    engine = plan.config["engine"]
    step = {**numeric_settings(engine, plan.device, member), "processes": world.size}
    member.conditions |= byte_conditions(plan.device, precision=plan.precision, **source, **step)
    length = f"{plan.recipe.epochs} epochs" if plan.recipe.epochs != 1 else "1 epoch"
    cohort.note_once(f"recipe {plan.names['recipe']}: {length}, batch size {plan.recipe.batch_size}")
    for note in plan.notes:
        cohort.note_once(note)
    code = {OWN_CODE: dict(plan.code)} if plan.code else {}
    provenance = collect(plan.device, precision=plan.precision, engine=dict(engine), step=step, teacher=facts, **code)
    world.first(lambda: directory.start(config=plan.record(), provenance=provenance))
    if loaded is not None:
        _resume(member, loaded, directory, cohort.console.note)
    world.first(lambda: directory.rewind(member.epoch - 1))
    cohort.members[plan.run_id], cohort.directories[plan.run_id] = member, directory


def _member(
    plan: RunPlan,
    directory: RunDirectory,
    teacher: MeasuredTeacher | None,
    first: RunRecord | None,
    cohort: Cohort,
    world: World,
) -> Member:
    """The run's student with its data, loss and teacher, before its first step."""
    evaluated = evaluation_batch(plan.device, plan.dataset.image_size)
    objective = plan.objective()
    stream = plan.dataset.stream(
        batch_size=plan.recipe.batch_size,
        seed=plan.seed,
        device=plan.device,
        dtype=image_type(plan, teacher, reads=objective.reads),
        strong=objective.strong_view,
        part=world.part,
    )
    return Member(
        name=plan.directory.name,
        student=plan.network().to(plan.device),
        objective=objective.to(plan.device),
        teacher=teacher.network if teacher is not None and objective.needs_teacher else None,
        recipe=plan.recipe,
        stream=stream,
        evaluation=plan.dataset.evaluation_stream(batch_size=evaluated, device=plan.device, part=world.part),
        split=plan.dataset.split,
        precision=plan.precision,
        seed=plan.seed,
        recorder=directory,
        checkpoints=CheckpointSchedule(
            plan.config["engine"]["checkpoint_seconds"],
            share=SHARE / cohort.size,  # all members together
        ),
        facts={
            "classes": plan.dataset.num_classes,
            "image_size": plan.dataset.image_size,
            "teacher": None if teacher is None else teacher.facts,
            # its seconds are a share of their common time
            **({"side_by_side": cohort.size} if cohort.size > 1 else {}),
        },
        first_stage=None if first is None else weights_of(first),
        norms_every=plan.config["engine"]["gradient_norms_every"],
        world=world,
    )


def image_type(plan: RunPlan, teacher: MeasuredTeacher | None, *, reads: Sequence[str] | None) -> torch.dtype:
    """bfloat16 where every network that reads the training images casts them to it first: then they are cast once.

    `reads` is what the objective declares to read; one that declares nothing may read the images.
    """
    readers = {plan.precision}
    if plan.teacher is not None and teacher is not None and teacher.facts["source"] == "live":
        readers.add(plan.teacher.precision)
    return torch.bfloat16 if readers == {"bf16"} and reads is not None else torch.float32


def _resume(member: Member, loaded: Loaded, directory: RunDirectory, note: Callable[[str], None]) -> None:
    """Restore `member` from `loaded`, with a note where the result may differ from an uninterrupted run's bytes.

    Raises:
        StorageError: the checkpoint was written by another version.
    """
    try:
        member.restore(loaded.tensors, loaded.state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StorageError(
            f"the checkpoint of {directory.path} is of another version of distill ({reason}): "
            "delete this folder to start the run again"
        ) from error
    differs = why_bytes_differ(loaded.state.get("conditions", {}), member.conditions)
    for sentence in (loaded.note, differs, f"{member.name} resumes at epoch {member.epoch}, step {member.step}"):
        if sentence:
            note(sentence)


def _train(cohort: Cohort, engine: Mapping[str, Any], device: torch.device) -> None:
    members, fault, world = list(cohort.members.values()), None, cohort.world
    try:
        with stop_signals() as requested, step_engine(members, engine, device, cohort.console.note) as steps:
            fit(members, watch=cohort.console.watch, stop_requested=lambda: world.any(requested()), engine=steps)
    except (EngineError, UnreadableImage) as error:
        if world.size > 1 and isinstance(error, UnreadableImage):  # the others wait for this process
            raise ProcessLost(str(error)) from error
        fault = error
    except (torch.OutOfMemoryError, BrokenPipeError, ProcessLost, EndedEarly):
        raise
    except Exception as error:  # of code of the user's own, for example: the runs are listed as failed
        message = " ".join(f"{type(error).__name__}: {error}".split())
        for member in members:
            if member.active and member.error is None and world.size == 1:  # others may still be at work
                member.fail(message)
        raise
    finally:  # also when the memory ran out: a member that has failed is not trained again
        for run_id, member in cohort.members.items():
            if isinstance(member.error, StorageError):
                cohort.endings[run_id] = member.error
            elif member.error is not None:
                cohort.endings[run_id] = RunFailed(f"{cohort.directories[run_id].path}: {member.error}")
    results = world.first(lambda: {run_id: each.result or {} for run_id, each in cohort.directories.items()})
    for run_id, member in cohort.members.items():
        if member.active and fault is not None:
            cohort.endings[run_id] = RunFailed(f"{cohort.directories[run_id].path}: {fault}")
        elif member.active:
            raise Interrupted(f"stopped at epoch {member.epoch}, step {member.step}: type the command again to go on")
        elif member.error is None:
            cohort.endings[run_id] = results[run_id]


def _teacher(plan: RunPlan, cohort: Cohort, loaded: Loaded | None) -> MeasuredTeacher | None:
    """The plan's teacher, trained first if it has not been trained yet; shared by the cohort.

    A resumed run keeps the source it began with.
    """
    if plan.teacher is None:
        return None
    if plan.teacher.plan is not None:
        _trained(plan.teacher.plan, cohort, what="teacher")
    facts, use = plan.teacher.facts(), teacher_use(plan)
    kept = None if loaded is None else loaded.state.get("conditions", {}).get(SOURCE, "live")
    choice = (use, not_from_a_table(plan.method), plan.config["teacher"]["source"], kept)
    if choice not in cohort.sources:
        epochs = cohort.teacher_epochs.get(use, plan.recipe.epochs)
        choose = partial(choose_source, plan, facts, kept=kept, epochs=epochs, note=cohort.console.note)
        cohort.sources[choice] = cohort.world.first(choose)
    source = cohort.sources[choice]
    form = plan.method.logits_only, plan.method.teacher_batch_statistics
    key = (facts.key, plan.teacher.precision, form, source)
    if key not in cohort.teachers:
        cohort.teachers[key] = measured_teacher(
            plan, plan.teacher, facts, source=source, note=cohort.console.note, world=cohort.world
        )
    return cohort.teachers[key]


def _trained(plan: RunPlan, cohort: Cohort, *, what: str) -> RunRecord:
    """The finished run of a teacher or first stage; it is trained where there is none, at most once a command."""
    if plan.run_id not in cohort.endings:
        if not plan.is_finished:
            cohort.console.note(f"{what} {plan.directory.name} will be trained first")
        (ending,) = execute([plan], cohort.console, retry=cohort.retry, wait=True, teacher_epochs=cohort.teacher_epochs)
        cohort.endings[plan.run_id] = ending
    failure = cohort.endings[plan.run_id]
    if isinstance(failure, Exception):
        raise RunFailed(f"there is no {what}: {failure}") from failure
    return plan.finished()
