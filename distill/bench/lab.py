"""The parts of which rows and gates are made: members as `distill train` makes them, and the peer's loop."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from distill.bench.clock import Clock, clock_of
from distill.bench.pair import calibrated, evaluation_images, generated, subset
from distill.bench.peer import Distillation, Loader, PeerLoop, in_nchw, train_loader, validation_loader
from distill.bench.settings import Settings
from distill.config.check import resolve
from distill.config.plan import RunPlan, teacher_precision
from distill.data import Batch, EvaluationStream, ImageDataset, ImageStream
from distill.models import folded
from distill.runs.checkpoint import CheckpointSchedule
from distill.teachers import LiveTeacher, TableTeacher, Teacher
from distill.teachers.row_code import encode
from distill.teachers.table_build import answers
from distill.teachers.table_spec import TableSpec
from distill.training import Captured, CudaLane, Eager, Engine, Member

GATE_IMAGES = 128  # that a table has true rows for
DRAWN_ROWS = 4096  # of a table whose content is of no interest
NEVER = 1e9  # seconds
LONGEST = 4  # windows that the longest variant's epoch has
LEAST = 10  # batches that a gate asks for
CALIBRATION = 128  # images


class Unrecorded:
    """A recorder that keeps nothing: the peer writes nothing either."""

    def log_epoch(self, metrics: Mapping[str, Any]) -> None: ...
    def log_timing(self, timing: Mapping[str, Any]) -> None: ...
    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None: ...
    def finish(self, result: Mapping[str, Any], *, weights: Mapping[str, Tensor]) -> None: ...
    def fail(self, failure: Mapping[str, Any]) -> None: ...


class Lab:
    """A planned pair with its calibrated teacher.

    Args:
        plan: of the student, by `plan_pair`.
        settings: by which it was planned.
        note: told what could not be captured.
    """

    def __init__(self, plan: RunPlan, settings: Settings, *, note: Callable[[str], None] = print) -> None:
        assert isinstance(plan.teacher, RunPlan)
        self.plan, self.settings, self.sizes, self.note = plan, settings, settings.sizes, note
        self.device, self.precision = plan.device, plan.precision
        self.teacher_precision = teacher_precision(plan)
        self.batch_size = plan.recipe.batch_size
        self.clock: Clock = clock_of(self.device)
        sizes = settings.sizes
        batches = max(LONGEST * sizes.steps, sizes.steps + sizes.run_in, LEAST)
        self.pool = generated(plan.dataset, images=max(sizes.images, batches * self.batch_size))
        self._subsets: dict[tuple[int, int], ImageDataset] = {}
        self._tables: dict[str, TableTeacher] = {}
        self._loaders: dict[str, Loader] = {}
        self.data = self.first(sizes.images, evaluation_images(sizes.images))
        images = next(ImageStream(self.pool, batch_size=CALIBRATION, seed=0, device="cpu").epoch(1)).images
        self.teacher_network = calibrated(plan.teacher.network(), images)

    def first(self, images: int, evaluation: int = 8) -> ImageDataset:
        """The first images; `evaluation` of the others are enough where evaluating is not timed."""
        key = images, evaluation
        if key not in self._subsets:
            self._subsets[key] = subset(self.pool, images=images, evaluation=evaluation)
        return self._subsets[key]

    def of_size(self, images: int, evaluation: int) -> ImageDataset:
        """A data set of its own."""
        return subset(generated(self.plan.dataset, images=images), images=images, evaluation=evaluation)

    def steps(self, count: int) -> ImageDataset:
        """A data set whose epoch has `count` full batches."""
        return self.first(count * self.batch_size)

    def stream(self, data: ImageDataset, *, seed: int | None = None) -> ImageStream:
        """A run's stream, the plan's own by default."""
        seed = self.plan.seed if seed is None else seed
        return ImageStream(data, batch_size=self.batch_size, seed=seed, device=self.device)

    def evaluation(self, data: ImageDataset) -> EvaluationStream:
        """What a run is evaluated on."""
        return EvaluationStream(data, batch_size=self.settings.evaluation_batch, device=self.device)

    def live(self, *, precision: str | None = None) -> LiveTeacher:
        """The teacher run live, on a copy of its network."""
        network, fast = (deepcopy(each).to(self.device) for each in (self.teacher_network, self.folded_teacher))
        precision = precision or self.teacher_precision
        return LiveTeacher(network, weights="bench", precision=precision, taps=False, fast=fast)

    def plain_teacher(self) -> nn.Module:
        """The teacher's network as it is, unfolded."""
        return deepcopy(self.teacher_network).to(self.device)

    @cached_property
    def folded_teacher(self) -> nn.Module:
        """The network that a live teacher runs, and of which a table is built."""
        return folded(self.teacher_network, image_size=self.data.image_size)

    def table(self, data: ImageDataset) -> TableTeacher:
        """The teacher read from a table of full size, true (in fp32) where `gate_batches` look and random elsewhere.

        To build it whole would take minutes, and what it costs to read does not depend on what is in it.
        """
        key = str(data.digest["train"])
        if key not in self._tables:
            spec = TableSpec.of(data, weights="bench", precision="fp32", device=self.device.type)
            network = self.plain_teacher()
            answer = answers(network, data, precision="fp32", device=self.device)
            drawn = encode(torch.randn(DRAWN_ROWS, spec.classes, generator=torch.Generator().manual_seed(0)) * 3)
            rows = drawn.repeat(-(-spec.rows // DRAWN_ROWS), 1)[: spec.rows]
            for batch in self.gate_batches(data):
                row = (batch.index * spec.views + batch.view).cpu()
                rows[row] = encode(answer(batch.index, batch.view)).cpu()
            self._tables[key] = TableTeacher(rows, spec=spec, network=network, device=self.device)
        return self._tables[key]

    def gate_batches(self, data: ImageDataset) -> list[Batch]:
        """The first batches of the first epoch, `GATE_IMAGES` images at least."""
        return list(islice(self.stream(data).epoch(1), -(-GATE_IMAGES // self.batch_size)))

    def member(
        self,
        data: ImageDataset,
        teacher: Teacher | None,
        *,
        temperature: float | None = None,
        seed: int | None = None,
        precision: str | None = None,
        epochs: int | None = None,
    ) -> Member:
        """A run of the plan, at another temperature or with another seed; a `teacher` of None leaves cross-entropy."""
        plan = self._changed(temperature=temperature, seed=seed, taught=teacher is not None)
        windows = 2 * (self.sizes.rounds + self.sizes.warm_up)
        return Member(
            name="bench",
            student=plan.network().to(self.device),
            objective=plan.objective().to(self.device),
            teacher=teacher,
            recipe=replace(plan.recipe, epochs=epochs or max(plan.recipe.epochs, windows)),
            stream=self.stream(data, seed=plan.seed),
            evaluation=self.evaluation(data),
            split=data.split,
            precision=precision or self.precision,
            seed=plan.seed,
            recorder=Unrecorded(),
            checkpoints=CheckpointSchedule(NEVER),
        )

    def cohort(self, data: ImageDataset, teacher: Teacher, size: int, *, epochs: int | None = None) -> Sequence[Member]:
        """A sweep of temperatures: one stream, one teacher."""
        return [self.member(data, teacher, temperature=1.0 + n / 2, epochs=epochs) for n in range(size)]

    def engine(self) -> Engine:
        """What carries out one training's steps: captured on CUDA, as `engine.capture=auto` has it."""
        if self.device.type != "cuda":
            return Eager()
        return Captured(lambda: CudaLane(self.device), declined=self.note)

    def peer(self, *, taught: bool = True, seed: int | None = None) -> PeerLoop:
        """The peer's loop around the same initial weights."""
        plan = self._changed(seed=seed)
        student = in_nchw(plan.network()).to(self.device)
        teacher = in_nchw(deepcopy(self.teacher_network)).to(self.device) if taught else None
        loss, optimizer = plan.config["loss"], dict(plan.config["recipe"]["optimizer"])
        build = resolve(str(optimizer.pop("_target_")))
        optimizer.pop("_partial_", None)
        return PeerLoop(
            student=student,
            teacher=teacher,
            loss=Distillation(float(loss["temperature"]), float(loss["ce_weight"]), float(loss["kd_weight"])),
            optimizer=build(student.parameters(), **optimizer),
            device=self.device,
        )

    def train_loader(self, data: ImageDataset) -> Loader:
        """The peer's training images."""
        key = str(data.digest["train"])
        if key not in self._loaders:
            self._loaders[key] = train_loader(data, batch_size=self.batch_size, workers=self.sizes.workers)
        return self._loaders[key]

    @cached_property
    def validation_loader(self) -> Loader:
        """The peer's evaluation images."""
        return validation_loader(self.data, workers=self.sizes.workers)

    def student(self) -> nn.Module:
        """The student with its initial weights."""
        return self.plan.network().to(self.device)

    def _changed(self, *, temperature: float | None = None, seed: int | None = None, taught: bool = True) -> RunPlan:
        config = dict(self.plan.config)
        if temperature is not None:
            config["loss"] = {**config["loss"], "temperature": temperature}
        if not taught:
            config["loss"] = {"_target_": "distill.losses.CrossEntropy"}
        if seed is not None:
            config["seed"] = seed
        return replace(self.plan, config=config)
