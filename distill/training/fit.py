"""The training loop and its callbacks."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol

import torch

from distill.runs.files import StorageError
from distill.training.engine import Batches, Eager, Engine
from distill.training.evaluation import Evaluation
from distill.training.member import Member
from distill.training.meters import NonFinite


class Watch(Protocol):
    """Training callbacks; they must not change the run, and must not synchronise with the device every step."""

    def step(self, member: Member) -> None: ...
    def epoch(self, member: Member, measured: Evaluation) -> None: ...
    def stopped(self, member: Member, error: Exception) -> None: ...


def fit(
    members: Sequence[Member],
    *,
    watch: Watch,
    stop_requested: Callable[[], bool] = lambda: False,
    engine: Engine | None = None,
) -> None:
    """Train a cohort to its last epoch; one run is a cohort of one.

    Members may stand at different positions (a resumed cohort): the one furthest behind trains alone until it has
    caught up. A member that fails (non-finite loss, full disk) stops alone and keeps its error. Where members have
    the same stream they share its batches, and where they also have the same teacher, its forward.

    Args:
        members: students that agree on data set, batch size and epochs.
        watch: callbacks after every step and epoch (progress line, plain lines, nothing).
        stop_requested: called after every step; once it returns true, members save their state and `fit` returns.
        engine: carries out the steps; `Eager` where none is given.
    """
    engine = engine or Eager()
    lap = stopwatch()
    epochs = max(member.recipe.epochs for member in members)
    for epoch in range(min(member.epoch for member in members), epochs + 1):
        present = [member for member in members if member.active and member.epoch == epoch]
        if not present:
            continue
        for member in present:
            member.begin_epoch(lap)

        for step, batches in joint_batches(engine, present, epoch):
            behind = [member for member in present if member.active and member.step == step]
            for member in engine.train(behind, batches):
                with stops_alone(member, watch):
                    member.advance()
                    watch.step(member)

            if not any(member.active for member in present):
                break
            if stop_requested():
                for member in present:
                    if member.active:
                        with stops_alone(member, watch):
                            member.checkpoint()
                return

        for member in present:
            if member.active:
                with stops_alone(member, watch):
                    member.check_finite()
        active = [member for member in present if member.active]
        await_device(active, lap)
        measured, averages = evaluated(engine, active), evaluated_averages(engine, active)
        seconds = lap() / max(1, len(active))
        for member in active:
            with stops_alone(member, watch):
                watch.epoch(member, member.end_epoch(measured[member], averages.get(member), seconds=seconds))


def joint_batches(engine: Engine, members: Sequence[Member], epoch: int) -> Iterator[tuple[int, Batches]]:
    """Step by step, one batch of each distinct stream by its key; equal streams are drawn once."""
    start = min(member.step for member in members)
    distinct = {member.stream.key: member.stream for member in members}
    iterators = {key: engine.batches(stream, epoch, start) for key, stream in distinct.items()}
    for step in range(start, max(stream.steps for stream in distinct.values())):
        yield step, {key: next(iterator) for key, iterator in iterators.items()}


def evaluated(engine: Engine, members: Sequence[Member]) -> dict[Member, Evaluation]:
    """Evaluates the students on their evaluation streams; of equal streams each batch is drawn once for all members."""
    found: dict[Member, Evaluation] = {}
    for key in dict.fromkeys(member.evaluation.key for member in members):
        together = [member for member in members if member.evaluation.key == key]
        found.update(zip(together, engine.evaluate(together), strict=True))
    return found


def evaluated_averages(engine: Engine, members: Sequence[Member]) -> dict[Member, Evaluation]:
    """The same for the averaged weights, of the members that have them."""
    averages = {member: member.average for member in members if member.average}
    with ExitStack() as stack:
        for average in averages.values():
            stack.enter_context(average.in_place())
        return evaluated(engine, list(averages))


@contextmanager
def stops_alone(member: Member, watch: Watch) -> Iterator[None]:
    """A non-finite number or a storage fault in the block ends `member` alone."""
    try:
        yield
    except (NonFinite, StorageError) as error:
        with suppress(StorageError):  # a full disk may refuse failed.json too; the error itself is kept
            member.stop(error)
        watch.stopped(member, error)


def await_device(members: Sequence[Member], lap: Callable[[], float]) -> None:
    """Wait for queued steps and divide their time evenly among the members."""
    for device in {member.device for member in members if member.device.type == "cuda"}:
        torch.cuda.synchronize(device)
    spent = lap()
    for member in members:
        member.spend(spent / len(members))


def stopwatch() -> Callable[[], float]:
    """A function that gives the seconds since its last call."""
    last = time.monotonic()

    def lap() -> float:
        nonlocal last
        now = time.monotonic()
        spent, last = now - last, now
        return spent

    return lap
