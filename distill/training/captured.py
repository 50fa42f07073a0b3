"""Training steps recorded once as CUDA graphs and replayed without Python; cohort members run in parallel."""

import gc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from distill.data import Batch, DeviceImages, Stream
from distill.models import Output
from distill.teachers import Teacher
from distill.training.engine import Batches, tally_of, train_step
from distill.training.evaluation import Evaluation, Tally, evaluating
from distill.training.graphs import Lane, Recording, Work
from distill.training.member import Member
from distill.training.optimizer import is_fused

T = TypeVar("T")


def copied(value: T) -> T:
    """A deep copy of a batch, an output, or another structure of tensors, tuples and dataclasses."""
    made: T = _mapped(value, Tensor.clone)
    return made


def written(into: object, value: object) -> None:
    """Write every tensor of `value` into that of `into`, which has the same structure."""
    for mine, new in zip(_tensors(into), _tensors(value), strict=True):
        mine.copy_(new)


@dataclass(frozen=True)
class Gather:
    """Fills a batch with the images and labels of its own `index` and `view`, as a stream does."""

    source: DeviceImages
    batch: Batch

    def __call__(self) -> None:
        images = self.source.images(self.batch.index, self.batch.view, dtype=self.batch.images.dtype)
        self.batch.images.copy_(images)
        self.batch.labels.copy_(self.source.labels.index_select(0, self.batch.index))


def _tensors(value: object) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _mapped(value, note)
    return found


def _mapped(value: Any, each: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return each(value)
    if isinstance(value, tuple):
        return tuple(_mapped(part, each) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: _mapped(getattr(value, field.name), each) for field in fields(value)})
    return value


class Captured:
    """An `Engine` of recordings, each for one of the two batch sizes of an epoch:

    - of each stream, the gather of its batch from the index and view that are copied in (where images are not on the
      device, or have a strong view, which the host plans, the whole batch is copied in);
    - of each teacher and stream, the teacher's forward;
    - of each member, forward, terms, backward, optimizer and meters;
    - of each member, the evaluation of a batch, which is copied in.

    Gather and teachers have one lane, and every member its own, so that members run at the same time; the next step
    waits for all. Members have a recording each, not one for all: one that stops leaves the others' as they are, and
    each is captured and replayed inside its own member's generator state.

    Args:
        new_lane: makes a lane: `CudaLane` on a device, a stand-in in tests.
        declined: called with the reason where something runs without being captured; it may raise.
    """

    def __init__(self, new_lane: Callable[[], Lane], *, declined: Callable[[str], None]) -> None:
        gc.collect()  # graphs and tensors of an earlier training: no garbage is collected while a step is captured
        self._new_lane, self._declined = new_lane, declined
        self._shared = new_lane()
        self._lanes: dict[Member, Lane] = {}
        self._static: dict[Hashable, Batch] = {}
        self._gathers: dict[Hashable, Recording] = {}
        self._answers: dict[Hashable, Answer] = {}
        self._teachers: dict[Hashable, Recording] = {}
        self._steps: dict[tuple[Member, int], Recording] = {}
        self._tallies: dict[Member, Tally] = {}
        self._evaluations: dict[Hashable, Recording] = {}

    def batches(self, stream: Stream, epoch: int, start: int) -> Iterator[Batch]:
        """Static batches: one for full batches, one for the remainder."""
        if stream.source is None or stream.strong is not None:
            for fresh in stream.epoch(epoch, start=start):
                yield self._copied_in(stream.key, fresh)
            return
        draws = (draw[start * stream.batch_size :] for draw in stream.draws(epoch))
        for index, view in zip(*(torch.split(draw, stream.batch_size) for draw in draws), strict=True):
            yield self._gathered(stream, stream.source, index, view)

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        """Queue the step of every member, then yield them all."""
        answers: dict[Hashable, Answer] = {}
        for member in members:
            batch, teacher = batches[member.stream.key], None
            if member.teacher is not None:
                key = (member.teacher.key, member.stream.key, len(batch.labels))
                if key not in answers:
                    answers[key] = self._answered(key, member.teacher, batch)
                teacher = answers[key]
            step = self._step(member, batch, teacher)
            step()
            if step.has_failed:
                self._release(member)
            member.captured_steps += step.is_captured
        for member in members:
            self._lane(member).join()
        yield from members

    def evaluate(self, members: Sequence[Member]) -> list[Evaluation]:
        """Like `evaluate_together`, each student in its member's lane."""
        stream = members[0].evaluation
        with ExitStack() as stack:
            for member in members:
                stack.enter_context(evaluating(member.student))
                self._tally(member).clear()
            for fresh in stream:
                batch = self._copied_in(stream.key, fresh)
                for member in members:
                    self._evaluation(member, batch)()
                for member in members:
                    self._lane(member).join()
        return [self._tally(member).read(stream.count) for member in members]

    def _lane(self, member: Member) -> Lane:
        if member not in self._lanes:
            self._lanes[member] = self._new_lane()
        return self._lanes[member]

    def _tally(self, member: Member) -> Tally:
        if member not in self._tallies:
            self._tallies[member] = tally_of(member)
        return self._tallies[member]

    def _copied_in(self, stream: Hashable, fresh: Batch) -> Batch:
        key = (stream, len(fresh.labels))
        if key in self._static:
            written(self._static[key], fresh)
        else:
            self._static[key] = copied(fresh)
        return self._static[key]

    def _gathered(self, stream: Stream, source: DeviceImages, index: Tensor, view: Tensor) -> Batch:
        key = (stream.key, len(index))
        if key not in self._static:
            images = source.images(index, view, dtype=stream.dtype)
            first = Batch(images, source.labels.index_select(0, index), index, view)
            batch = self._static[key] = copied(first)
            name = f"the gather of {len(index)} images"
            self._gathers[key] = Recording(Gather(source, batch), self._shared, name=name, declined=self._declined)
        batch = self._static[key]
        batch.index.copy_(index)
        batch.view.copy_(view)
        self._gathers[key]()
        self._shared.join()
        return batch

    def _answered(self, key: Hashable, teacher: Teacher, batch: Batch) -> "Answer":
        if key not in self._answers:
            answer = self._answers[key] = Answer(teacher, batch)
            name = f"the teacher's forward of {len(batch.labels)} images"
            self._teachers[key] = Recording(answer, self._shared, name=name, declined=self._declined)
        self._teachers[key]()
        self._shared.join()
        return self._answers[key]

    def _evaluation(self, member: Member, batch: Batch) -> Recording:
        key = (member, len(batch.labels))
        if key not in self._evaluations:
            name = f"the evaluation of {member.name}, {len(batch.labels)} images,"
            work = partial(self._tally(member).add, batch)
            self._evaluations[key] = Recording(work, self._lane(member), name=name, declined=self._declined)
        return self._evaluations[key]

    def _step(self, member: Member, batch: Batch, teacher: "Answer | None") -> Recording:
        key = (member, len(batch.labels))
        if key not in self._steps:
            self._steps[key] = Recording(
                step_of(member, batch, teacher),
                self._lane(member),
                name=f"the step of {member.name}, {len(batch.labels)} images,",
                declined=self._declined,
                around=member.randomness,
                obstacle=None if is_fused(member.optimizer) else "its optimizer reads the learning rate on the host",
                addresses=lambda: addresses(member),
                recover=member.randomness.renew,
            )
        return self._steps[key]

    def _release(self, member: Member) -> None:
        """Replay no step of a member whose generator state was renewed: its graphs draw from the old one."""
        for (owner, _), recording in self._steps.items():
            if owner is member and recording.is_captured:
                recording.give_up()


class Answer:
    """A teacher's forward on a static batch, as work: it writes `output`, at the same addresses each time.

    `output` is made in the first call, which is never captured, so it lies outside the lane's pool. In the pool
    another graph might overwrite it before a student has read it: in a cohort with several streams, all teachers are
    replayed before a student is certain to be done.

    A teacher that cannot be captured (a table on the host) is called each time, and its students' steps can still be
    captured.
    """

    def __init__(self, teacher: Teacher, batch: Batch) -> None:
        self._teacher, self._batch = teacher, batch
        self.output: Output | None = None

    def __call__(self) -> None:
        answer = self._teacher(self._batch)
        if self.output is None:
            self.output = copied(answer)
        else:
            written(self.output, answer)


def step_of(member: Member, batch: Batch, teacher: Answer | None) -> Work:
    """The member's training step on a static batch, without arguments."""

    def step() -> None:
        target = None if teacher is None else teacher.output
        train_step(member, batch, target, count=len(batch.labels))

    return step


def addresses(member: Member) -> Mapping[str, int]:
    """The addresses, by name, of the state that a step changes: student, its average, objective, optimizer, meters."""
    tensors: dict[str, torch.Tensor] = {}
    for part, module in (("student", member.student), ("objective", member.objective)):
        tensors |= {f"{part}/{name}": tensor for name, tensor in module.named_parameters()}
        tensors |= {f"{part}/{name}": tensor for name, tensor in module.named_buffers()}
    for index, entries in enumerate(member.optimizer.state.values()):
        tensors |= {f"optimizer/{index}/{k}": v for k, v in entries.items() if isinstance(v, torch.Tensor)}
    tensors |= {f"meters/{name}": tensor for name, tensor in member.meters.tensors().items()}
    tensors |= {f"ema/{name}": tensor for name, tensor in member.average.tensors.items()} if member.average else {}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}
