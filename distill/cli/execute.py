"""One planned run from its lock to its result: skip, wait, resume or train, the teacher first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from distill.cli.teaching import EVALUATION_BATCH, make_teacher
from distill.compose.plan import RunPlan
from distill.data import EvaluationStream, ImageStream
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError
from distill.runs.lock import RunLock
from distill.runs.provenance import byte_conditions, collect, why_bytes_differ
from distill.runs.schedule import CheckpointSchedule
from distill.runs.store import RunRecord, read_run
from distill.teachers import LiveTeacher
from distill.training import Member, Watch, fit


class Busy(RuntimeError):
    """Another process is at work on the run; the text says who."""


class RunFailed(RuntimeError):
    """The run has failed, now or before; the text says how."""


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; the state is saved."""


@dataclass(frozen=True)
class Console:
    """How a run speaks: `note` prints one line, `watch` follows training."""

    note: Callable[[str], None]
    watch: Watch


def execute(plan: RunPlan, console: Console, *, retry: bool = False, wait: bool = False) -> dict[str, Any]:
    """The run's result: at once where it is finished, else after training it to its end.

    Args:
        plan: what to run.
        console: told what happens.
        retry: take up a run that failed before.
        wait: where another process holds the run, wait for it (and take over if it dies) instead of giving up.

    Raises:
        Busy, RunFailed, StorageError, Interrupted.
    """
    directory = RunDirectory(plan.directory)
    if directory.is_finished:
        return directory.result or {}
    with RunLock(plan.directory) as lock:
        if wait:
            lock.wait(lambda who: console.note(f"waiting for {plan.directory.name}: {who} is training it"))
        elif not lock.acquire():
            raise Busy(f"{plan.directory} is being trained by {lock.holder()}: wait for it, or stop it first")
        if directory.is_finished:
            directory.tidy()
            return directory.result or {}
        failure = directory.failure
        if failure is not None and not retry:
            raise RunFailed(f"{plan.directory} failed before: {failure['message']} (add --retry to try it again)")
        return _train(plan, directory, console, retry=retry)


def _train(plan: RunPlan, directory: RunDirectory, console: Console, *, retry: bool) -> dict[str, Any]:
    threads = plan.config["engine"]["threads"]
    if threads is not None:
        torch.set_num_threads(threads)
    teacher, facts = _teacher(plan, console, retry=retry)
    conditions = byte_conditions(plan.device, precision=plan.precision)
    if retry:
        directory.clear_failure()
    member = _member(plan, directory, teacher, {"classes": plan.dataset.num_classes, "teacher": facts}, conditions)
    directory.start(config=_config_file(plan), provenance=collect(
        plan.device, precision=plan.precision, engine=dict(plan.config["engine"]), teacher=facts
    ))
    _resume(member, directory, conditions, console)

    with stop_signals() as stop_requested:
        fit([member], watch=console.watch, stop_requested=stop_requested)
    if member.error is not None:
        raise RunFailed(f"{plan.directory}: {member.error}") from member.error
    if member.active:
        raise Interrupted(f"stopped at epoch {member.epoch}, step {member.step}: type the command again to go on")
    return directory.result or {}


def _teacher(plan: RunPlan, console: Console, *, retry: bool) -> tuple[LiveTeacher | None, dict[str, object] | None]:
    if plan.teacher is None:
        return None, None
    record: RunRecord | None = plan.teacher if isinstance(plan.teacher, RunRecord) else None
    if isinstance(plan.teacher, RunPlan):
        if not RunDirectory(plan.teacher.directory).is_finished:
            console.note(f"teacher {plan.teacher.directory.name} is needed first")
        execute(plan.teacher, console, retry=retry, wait=True)
        record = read_run(plan.teacher.directory)
    assert record is not None
    return make_teacher(plan, record, taps=not plan.objective().logits_only, note=console.note)


def _member(
    plan: RunPlan,
    directory: RunDirectory,
    teacher: LiveTeacher | None,
    facts: dict[str, object],
    conditions: dict[str, Any],
) -> Member:
    batch_size = plan.recipe.batch_size
    return Member(
        name=plan.directory.name,
        student=plan.network().to(plan.device),
        objective=plan.objective().to(plan.device),
        teacher=teacher,
        recipe=plan.recipe,
        stream=ImageStream(plan.dataset, batch_size=batch_size, seed=plan.seed, device=plan.device),
        evaluation=EvaluationStream(plan.dataset, batch_size=EVALUATION_BATCH, device=plan.device),
        split=plan.dataset.split,
        precision=plan.precision,
        seed=plan.seed,
        recorder=directory,
        checkpoints=CheckpointSchedule(plan.config["engine"]["checkpoint_seconds"]),
        facts=facts,
        conditions=conditions,
    )


def _resume(member: Member, directory: RunDirectory, conditions: dict[str, Any], console: Console) -> None:
    loaded = directory.load()
    if loaded is None:
        directory.rewind(0)
        return
    member.restore(loaded.tensors, loaded.state)
    directory.rewind(member.epoch - 1)
    differs = why_bytes_differ(loaded.state["conditions"], conditions)
    for note in (loaded.note, differs, f"{member.name} resumes at epoch {member.epoch}, step {member.step}"):
        if note:
            console.note(note)


def _config_file(plan: RunPlan) -> dict[str, Any]:
    return {
        "run_id": plan.run_id,
        "names": dict(plan.names),
        "config": dict(plan.config),
        "identity": dict(plan.identity),
    }


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request, so that state is saved; the second one acts as ever."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[number])

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["Busy", "Console", "Interrupted", "RunFailed", "StorageError", "execute", "stop_signals"]
