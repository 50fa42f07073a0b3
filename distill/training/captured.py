"""Training steps recorded once as CUDA graphs and replayed without Python; cohort members run in parallel."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from distill.data import Batch, DeviceImages, Stream
from distill.models import Output
from distill.teachers import Teacher
from distill.training.engine import Batches, train_step
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
        self.batch.images.copy_(self.source.images(self.batch.index, self.batch.view))
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


class CapturedEvaluation:
    """`evaluate` for a member's student, captured once for each batch size; lanes as in `Captured`.

    The stream's batches are copied into a static one for each batch size."""

    def __init__(self, member: Member, lane: Lane, *, declined: Callable[[str], None]) -> None:
        self._member, self._lane, self._declined = member, lane, declined
        self._tally = Tally(member.device, top5=member.evaluation.top5)
        self._static: dict[int, Batch] = {}
        self._recordings: dict[int, Recording] = {}

    def __call__(self) -> Evaluation:
        """The student as it is now. One host read, at the end."""
        self._tally.clear()
        with evaluating(self._member.student):
            for fresh in self._member.evaluation:
                recording = self._recording(fresh)
                written(self._static[len(fresh.labels)], fresh)
                recording()
                self._lane.join()
        return self._tally.read(self._member.evaluation.count)

    def _recording(self, fresh: Batch) -> Recording:
        size = len(fresh.labels)
        if size not in self._recordings:
            self._static[size] = copied(fresh)
            name = f"the evaluation of {self._member.name}, {size} images,"
            self._recordings[size] = Recording(
                self._work(self._static[size]), self._lane, name=name, declined=self._declined
            )
        return self._recordings[size]

    def _work(self, batch: Batch) -> Work:
        def work() -> None:
            self._tally.add(self._member.student, batch, precision=self._member.precision)

        return work


class Captured:
    """An `Engine` of recordings, each for one of the two batch sizes of an epoch:

    - of each stream, the gather of its batch from the index and view that are copied in (where images are not on the
      device, or have a strong view, which the host plans, the whole batch is copied in);
    - of each teacher and stream, the teacher's forward;
    - of each member, forward, terms, backward, optimizer and meters.

    Gather and teachers have one lane, and every member its own, so that members run at the same time; the next step
    waits for all. Members have a recording each, not one for all: one that stops leaves the others' as they are, and
    each is captured and replayed inside its own member's generator state.

    Args:
        new_lane: makes a lane: `CudaLane` on a device, a stand-in in tests.
        declined: called with the reason where something runs without being captured; it may raise.
    """

    def __init__(self, new_lane: Callable[[], Lane], *, declined: Callable[[str], None]) -> None:
        self._new_lane, self._declined = new_lane, declined
        self._shared = new_lane()
        self._lanes: dict[Member, Lane] = {}
        self._static: dict[Hashable, Batch] = {}
        self._gathers: dict[Hashable, Recording] = {}
        self._teachers: dict[Hashable, CapturedTeacher] = {}
        self._steps: dict[Hashable, Recording] = {}
        self._evaluations: dict[Member, CapturedEvaluation] = {}

    def batches(self, stream: Stream, epoch: int, start: int) -> Iterator[Batch]:
        """Static batches: one for full batches, one for the remainder."""
        if stream.source is None or stream.strong is not None:
            for fresh in stream.epoch(epoch, start=start):
                batch = self._static.setdefault((stream.key, len(fresh.labels)), copied(fresh))
                written(batch, fresh)
                yield batch
            return
        draws = (draw[start * stream.batch_size :] for draw in stream.draws(epoch))
        for index, view in zip(*(torch.split(draw, stream.batch_size) for draw in draws), strict=True):
            yield self._gathered(stream.key, stream.source, index, view)

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        """Queue the step of every member, then yield them all."""
        teachers: dict[Hashable, CapturedTeacher] = {}
        for member in members:
            batch, teacher = batches[member.stream.key], None
            if member.teacher is not None:
                key = (member.teacher.key, member.stream.key, len(batch.labels))
                if key not in teachers:
                    teachers[key] = self._teacher(key, member.teacher, batch)
                teacher = teachers[key]
            step = self._step(member, batch, teacher)
            step()
            member.captured_steps += step.is_captured
        for member in members:
            self._lane(member).join()
        yield from members

    def evaluate(self, member: Member) -> Evaluation:
        """Like `evaluate`, with one recording for each batch size of the evaluation stream."""
        if member not in self._evaluations:
            self._evaluations[member] = CapturedEvaluation(member, self._lane(member), declined=self._declined)
        return self._evaluations[member]()

    def _lane(self, member: Member) -> Lane:
        if member not in self._lanes:
            self._lanes[member] = self._new_lane()
        return self._lanes[member]

    def _gathered(self, stream: Hashable, source: DeviceImages, index: Tensor, view: Tensor) -> Batch:
        key = (stream, len(index))
        if key not in self._static:
            first = Batch(source.images(index, view), source.labels.index_select(0, index), index, view)
            batch = self._static[key] = copied(first)
            name = f"the gather of {len(index)} images"
            self._gathers[key] = Recording(Gather(source, batch), self._shared, name=name, declined=self._declined)
        batch = self._static[key]
        batch.index.copy_(index)
        batch.view.copy_(view)
        self._gathers[key]()
        self._shared.join()
        return batch

    def _teacher(self, key: Hashable, teacher: Teacher, batch: Batch) -> "CapturedTeacher":
        if key not in self._teachers:
            self._teachers[key] = CapturedTeacher(teacher, batch, self._shared, declined=self._declined)
        captured = self._teachers[key]
        captured.run()
        return captured

    def _step(self, member: Member, batch: Batch, teacher: "CapturedTeacher | None") -> Recording:
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


class CapturedTeacher:
    """A teacher's forward on a static batch. Once captured, `run` writes `output` to the same addresses each time.

    It runs at least as often as any of its students trains on such a batch, and before them, so the addresses are fixed
    when the first student is captured.

    A teacher that cannot be captured (a table on the host) runs eagerly and its output is copied to fixed addresses, so
    that its students' steps can still be captured.
    """

    def __init__(self, teacher: Teacher, batch: Batch, lane: Lane, *, declined: Callable[[str], None]) -> None:
        self._teacher, self._batch, self._lane = teacher, batch, lane
        self._answer: Output | None = None
        self.output: Output | None = None
        name = f"the teacher's forward of {len(batch.labels)} images"
        self.recording = Recording(self._work, lane, name=name, declined=declined)

    def run(self) -> None:
        """Bring `output` up to date with the batch."""
        self.recording()
        self._lane.join()
        if self.recording.is_captured:
            self.output = self._answer
        elif self.output is None:
            self.output = copied(self._answer)
        else:
            written(self.output, self._answer)

    def _work(self) -> None:
        self._answer = self._teacher(self._batch)


def step_of(member: Member, batch: Batch, teacher: CapturedTeacher | None) -> Work:
    """The member's training step on a static batch, without arguments."""

    def step() -> None:
        target = None if teacher is None else teacher.output
        train_step(member, batch, target, count=len(batch.labels))

    return step


def addresses(member: Member) -> Mapping[str, int]:
    """Where the state lies that a step changes: of student, its average, objective, optimizer and meters, by name."""
    tensors: dict[str, torch.Tensor] = {}
    for part, module in (("student", member.student), ("objective", member.objective)):
        tensors |= {f"{part}/{name}": tensor for name, tensor in module.named_parameters()}
        tensors |= {f"{part}/{name}": tensor for name, tensor in module.named_buffers()}
    for index, entries in enumerate(member.optimizer.state.values()):
        tensors |= {f"optimizer/{index}/{k}": v for k, v in entries.items() if isinstance(v, torch.Tensor)}
    tensors |= {f"meters/{name}": tensor for name, tensor in member.meters.tensors().items()}
    tensors |= {f"ema/{name}": tensor for name, tensor in member.average.tensors.items()} if member.average else {}
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}
