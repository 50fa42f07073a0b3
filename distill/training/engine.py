"""How the batches of a cohort are trained on: what `fit` asks of it, and the way that does just that."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch

from distill.data import Batch, ImageStream
from distill.models import Output
from distill.training.evaluation import Evaluation, evaluate
from distill.training.member import Member

Batches = Mapping[object, Batch]  # of each stream of the cohort by its key


class Engine(Protocol):
    """Carries out steps. Whichever is taken, a run is the same; only time, and the last bits, may differ."""

    def batches(self, stream: ImageStream, epoch: int, start: int) -> Iterator[Batch]:
        """Those of an epoch from step `start` on; each may be overwritten by the next."""
        ...

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        """Train each member on the batch of its stream; yields them as they are done, or queued on the device."""
        ...

    def evaluate(self, member: Member) -> Evaluation:
        """Of the member's student, on its evaluation stream."""
        ...


class Eager:
    """Member after member, operation after operation, as Python says."""

    def batches(self, stream: ImageStream, epoch: int, start: int) -> Iterator[Batch]:
        return stream.epoch(epoch, start=start)

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        # one forward per teacher and stream, whoever asks first
        taught: dict[object, Output] = {}
        for member in members:
            batch = batches[member.stream.key]
            answer = None
            if member.teacher is not None:
                key = (member.teacher.key, member.stream.key)
                if key not in taught:
                    taught[key] = member.teacher(batch)
                answer = taught[key]
            with member.randomness:
                train_step(member, batch, answer)
            yield member

    def evaluate(self, member: Member) -> Evaluation:
        return evaluate(member.student, member.evaluation, precision=member.precision)


def train_step(member: Member, batch: Batch, teacher: Output | None) -> None:
    """Forward, named terms, sum, backward, step, meters: nothing in it waits for the device or reads the host.

    To be called inside `member.randomness`. Everything it reads from one step to the next lies in tensors that are
    written in place (`member.progress`, learning rates, meters), and its shapes depend on the batch's alone.
    """
    output = member.predict(batch)
    terms = member.objective(output, teacher, batch, member.progress)
    member.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(torch.stack([*terms.values()]).sum())
    member.optimizer.step()
    member.meters.update(terms, output.logits, batch.labels)
