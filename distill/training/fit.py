"""The training loop: the one place where networks learn."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from distill.data import Batch, ImageStream
from distill.models import Output
from distill.runs.files import StorageError
from distill.training.finite import NonFinite
from distill.training.member import Member
from distill.training.watch import Watch


def fit(members: Sequence[Member], *, watch: Watch, stop_requested: Callable[[], bool] = lambda: False) -> None:
    """Train a cohort to its last epoch; one run is a cohort of one.

    Members may stand at different positions (a resumed cohort): the one furthest behind trains alone until it has
    caught up. A member that fails (non-finite loss, full disk) stops alone and keeps its error. Where members have
    the same stream they share its batches, and where they also have the same teacher, its forward.

    Args:
        members: students that agree on data set, batch size and epochs.
        watch: is told of every step and epoch (progress line, plain lines, nothing).
        stop_requested: asked after every step; once true, members save their state and `fit` returns.
    """
    lap = stopwatch()
    epochs = max(member.recipe.epochs for member in members)
    for epoch in range(min(member.epoch for member in members), epochs + 1):
        present = [member for member in members if member.active and member.epoch == epoch]
        if not present:
            continue
        for member in present:
            member.begin_epoch(lap)

        for step, batches in joint_batches([m.stream for m in present], epoch, min(m.step for m in present)):
            # one forward per teacher and stream, whoever asks first
            taught: dict[object, Output] = {}
            for member in present:
                if not member.active or member.step != step:
                    continue
                batch = batches[member.stream.key]
                teacher_output = None
                if member.teacher is not None:
                    key = (member.teacher.key, member.stream.key)
                    if key not in taught:
                        taught[key] = member.teacher(batch)
                    teacher_output = taught[key]

                with stops_alone(member, watch):
                    with member.randomness:
                        output = member.predict(batch)
                        terms = member.objective(output, teacher_output, batch, member.progress())
                        member.optimizer.zero_grad(set_to_none=True)
                        torch.autograd.backward(torch.stack([*terms.values()]).sum())
                        member.optimizer.step()
                    member.advance(terms, output, batch.labels)
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
                    watch.epoch(member, member.end_epoch())


@contextmanager
def stops_alone(member: Member, watch: Watch) -> Iterator[None]:
    """A non-finite number or a storage fault in the block ends `member`, and nobody else."""
    try:
        yield
    except (NonFinite, StorageError) as error:
        with suppress(StorageError):  # a full disk may refuse failed.json too; the error itself is kept
            member.stop(error)
        watch.stopped(member, error)


def stopwatch() -> Callable[[], float]:
    """A function that gives the seconds since its last call."""
    last = time.monotonic()

    def lap() -> float:
        nonlocal last
        now = time.monotonic()
        spent, last = now - last, now
        return spent

    return lap


def joint_batches(streams: Sequence[ImageStream], epoch: int, start: int) -> Iterator[tuple[int, dict[object, Batch]]]:
    """Step by step, one batch of each distinct stream by its key; equal streams are drawn once."""
    distinct = {stream.key: stream for stream in streams}
    iterators = {key: stream.epoch(epoch, start=start) for key, stream in distinct.items()}
    for step in range(start, max(stream.steps for stream in distinct.values())):
        yield step, {key: next(iterator) for key, iterator in iterators.items()}
