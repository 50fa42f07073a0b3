"""A pair on generated images or photographs: members as `distill train` makes them, and the peer around its weights."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.config.check import resolve
from distill.config.plan import RunPlan
from distill.config.sweep import prepare
from distill.data import Dataset, ImageDataset, OrderedStream, PhotoDataset, Stream, synthetic
from distill.data.dataset import ordered_digest
from distill.models import folded
from distill.runs.checkpoint import CheckpointSchedule
from distill.teachers import LiveTeacher, TableTeacher, Teacher
from distill.teachers.table import TableSpec, encode
from distill.training import ALONE, Captured, CudaLane, Eager, Engine, Member, World
from scripts.bench.measure import Clock, clock_of
from scripts.bench.peer import (
    Distillation,
    Loader,
    PeerLoop,
    cropped,
    in_nchw,
    normalised,
    photo_loader,
    train_loader,
    validation_loader,
)

DRAWN_ROWS = 4096  # distinct rows of a table, whose content does not change its speed
NEVER = 1e9  # seconds
LONGEST = 4  # windows that the longest variant's epoch has
LEAST = 10  # batches that a gate needs
CALIBRATION = 128  # images
PHOTOGRAPHS = 32  # of a batch
# without the warm-up, which the peer does not have, and so small that rounding does not grow within a few steps
GENTLE = ("recipe.schedule.warmup=0", "recipe.optimizer.lr=0.001")
CLASSES, SIZE = 100, 32
# CIFAR-100's, as in configs/dataset/cifar100.yaml
MEAN, STD = "[0.5071,0.4867,0.4408]", "[0.2675,0.2565,0.2761]"
EVALUATED = 5  # training images to one evaluation image, as CIFAR has them
SPREAD = 3.0  # standard deviation of a trained teacher's logits on CIFAR-100


@dataclass(frozen=True)
class Sizes:
    """Images of an epoch, steps of a window, rounds that count and those before, worker processes of the peer's."""

    images: int
    steps: int
    rounds: int
    warm_up: int
    workers: int

    @property
    def run_in(self) -> int:
        """Untimed steps of the peer before a window, during which its workers fill their queue."""
        return 4 if self.workers else 0


# a GPU's windows are long, since it works through a queue; its peer has two workers, as the field has
ON_CPU = Sizes(images=2048, steps=4, rounds=9, warm_up=1, workers=0)
ON_GPU = Sizes(images=2048, steps=50, rounds=20, warm_up=3, workers=2)


@dataclass(frozen=True)
class Settings:
    """A pair and how it is measured.

    evaluation_batch  the images that `distill train` evaluates at once
    photographs       a folder with train/CLASS and val/CLASS, for the rows that need photographs
    workers           of the loader row: processes of the peer's, threads of ours; 0: everything in the process itself
    """

    experiment: str
    precision: str
    device: str
    config_dir: str | None
    sizes: Sizes
    evaluation_batch: int
    photographs: str | None = None
    workers: int = 0


def plan_pair(settings: Settings) -> RunPlan:
    """The plan of KD in the experiment, its data replaced by a few generated images of CIFAR-100's shape.

    Nothing needs to be downloaded, and neither side's speed depends on what is in an image.

    Raises:
        Refused: everything that is wrong with the experiment.
    """
    data: dict[str, int | str] = {"classes": CLASSES, "train_size": CLASSES, "test_size": 1, "image_size": SIZE}
    data |= {"mean": MEAN, "std": STD, "pad": 4, "flip": "true"}
    overrides = [f"experiment={settings.experiment}", "loss=kd", "dataset=synthetic"]
    overrides += [f"dataset.{key}={value}" for key, value in data.items()]
    overrides += [f"precision={settings.precision}", f"engine.device={settings.device}", "teacher.source=live"]
    config_dir = None if settings.config_dir is None else Path(settings.config_dir)
    _, sweep = prepare(overrides, multirun=False, config_dir=config_dir, faults=(), may_download=False)
    return sweep.jobs[0]


def plan_photographs(settings: Settings) -> RunPlan:
    """The plan of KD on photographs at 128 pixels. Raises Refused: there are none, or they cannot be read."""
    overrides = ["dataset=image_folder", f"dataset.root={settings.photographs}", "dataset.size=128", "loss=kd"]
    overrides += ["dataset.resize=144", "student=mobilenet_v1", "recipe=imagenette", "teacher=torchvision"]
    overrides += ["teacher.network.name=resnet18", *GENTLE, f"recipe.batch_size={PHOTOGRAPHS}", "teacher.source=live"]
    overrides += [f"precision={settings.precision}", f"engine.device={settings.device}"]
    _, sweep = prepare(overrides, multirun=False, config_dir=None, faults=(), may_download=False)
    return sweep.jobs[0]


def evaluation_images(images: int) -> int:
    """How many images an epoch of `images` is followed by."""
    return -(-images // EVALUATED)


def generated(like: Dataset, *, images: int) -> ImageDataset:
    """A data set like the plan's, with `images` training images."""
    return synthetic(
        classes=like.num_classes,
        train_size=max(images, like.num_classes),
        test_size=evaluation_images(images),
        image_size=like.image_size,
        mean=like.mean,
        std=like.std,
        pad=like.identity()["pad"],
        flip=like.identity()["flip"],
    )


def name_of(plan: RunPlan) -> str:
    """`resnet20 -> resnet8`."""
    return f"{plan.names['teacher']} -> {plan.names['student']}"


def calibrated(network: nn.Module, images: Tensor, *, seed: int = 0) -> nn.Module:
    """Random weights with the statistics of trained ones, in eval mode.

    BatchNorm gets scattered scales and shifts and the running statistics of `images` (B, 3, H, W), so that folding it
    is no identity; the classifier is scaled until the logits deviate by about 3.
    """
    random = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=random)
            norm.bias.normal_(0.0, 0.2, generator=random)
            norm.momentum = 1.0  # the statistics of the last batch
        network.train()(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logits = network.eval()(images).logits
        classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        for parameter in classifier.parameters():
            parameter.mul_(SPREAD / logits.std())
    return network


def subset(data: Dataset, *, images: int, evaluation: int) -> Dataset:
    """The first images of both splits, as a data set of its own. Of few images some classes may have none.

    Photographs are repeated where there are fewer.
    """
    if isinstance(data, PhotoDataset):
        counts = ((images, data.train), (evaluation, data.evaluation))
        rows, others = (np.arange(count) % len(part) for count, part in counts)
        return replace(data, train=data.train.at(rows), evaluation=data.evaluation.at(others))
    assert isinstance(data, ImageDataset)
    train = data.train_images[:images], data.train_labels[:images]
    return replace(
        data,
        train_images=train[0],
        train_labels=train[1],
        evaluation_images=data.evaluation_images[:evaluation],
        evaluation_labels=data.evaluation_labels[:evaluation],
        digest={"train": ordered_digest(*train, num_classes=data.num_classes), "test": None},
    )


class Unrecorded:
    """A recorder that keeps nothing: the peer writes nothing either."""

    def log_epoch(self, metrics: Mapping[str, Any]) -> None: ...
    def log_timing(self, timing: Mapping[str, Any]) -> None: ...
    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None: ...
    def finish(
        self, result: Mapping[str, Any], *, weights: Mapping[str, Tensor], averaged: Mapping[str, Tensor] | None
    ) -> None: ...
    def fail(self, failure: Mapping[str, Any]) -> None: ...


class Lab:
    """A planned pair with its calibrated teacher.

    Args:
        plan: of the student, by `plan_pair`.
        settings: by which it was planned.
        note: receives a line for what could not be captured.
    """

    def __init__(self, plan: RunPlan, settings: Settings, *, note: Callable[[str], None] = print) -> None:
        assert plan.teacher is not None
        assert plan.teacher.plan is not None
        self.plan, self.settings, self.sizes, self.note = plan, settings, settings.sizes, note
        self.device, self.precision = plan.device, plan.precision
        self.teacher_precision = plan.teacher.precision
        self.batch_size = plan.recipe.batch_size
        self.clock: Clock = clock_of(self.device)
        sizes = settings.sizes
        batches = max(LONGEST * sizes.steps, sizes.steps + sizes.run_in, LEAST)
        images = max(sizes.images, batches * self.batch_size)
        self.pool: Dataset = plan.dataset
        if not isinstance(self.pool, PhotoDataset):
            self.pool = generated(plan.dataset, images=images)
        self._subsets: dict[tuple[int, int], Dataset] = {}
        self._tables: dict[str, TableTeacher] = {}
        self._loaders: dict[str, Loader] = {}
        self.data = self.first(sizes.images, evaluation_images(sizes.images))
        batch = next(iter(self.pool.stream(batch_size=CALIBRATION, seed=0, device="cpu").epoch(1)))
        self.teacher_network = calibrated(plan.teacher.plan.network(), batch.images)

    @cached_property
    def photographs(self) -> "Lab | None":
        """A lab on photographs; None where no folder of them is named."""
        if self.settings.photographs is None:
            return None
        return Lab(plan_photographs(self.settings), self.settings, note=self.note)

    def first(self, images: int, evaluation: int = 8) -> Dataset:
        """The first images; `evaluation` of the others are enough where evaluating is not timed."""
        key = images, evaluation
        if key not in self._subsets:
            self._subsets[key] = subset(self.pool, images=images, evaluation=evaluation)
        return self._subsets[key]

    def steps(self, count: int) -> Dataset:
        """A data set whose epoch has `count` full batches."""
        return self.first(count * self.batch_size)

    def stream(
        self, data: Dataset, *, seed: int | None = None, dtype: torch.dtype = torch.float32, world: World = ALONE
    ) -> Stream:
        """A run's stream, the plan's own by default."""
        seed = self.plan.seed if seed is None else seed
        return data.stream(batch_size=self.batch_size, seed=seed, device=self.device, dtype=dtype, part=world.part)

    def evaluation(self, data: Dataset, *, world: World = ALONE) -> OrderedStream:
        """What a run is evaluated on."""
        batch_size = self.settings.evaluation_batch
        return data.evaluation_stream(batch_size=batch_size, device=self.device, part=world.part)

    def peer_batches(self, stream: Stream) -> list[tuple[Tensor, Tensor]]:
        """The batches of a stream's first epoch as the peer's transforms make them, on the host.

        They are ours of photographs, whose pixels have a gate of their own, and in float64, which the transforms lack.
        """
        if not isinstance(self.data, ImageDataset) or stream.dtype == torch.float64:
            return [(batch.images.cpu().contiguous(), batch.labels.cpu()) for batch in stream.epoch(1)]
        whole = self.pool
        assert isinstance(whole, ImageDataset)
        return [
            (normalised(cropped(whole, batch.index.tolist(), batch.view.cpu()), whole), batch.labels.cpu())
            for batch in stream.epoch(1)
        ]

    def live(self, *, precision: str | None = None, dtype: torch.dtype = torch.float32) -> LiveTeacher:
        """The teacher run live, on a copy of its network with weights in `dtype`."""
        memory = torch.channels_last if self.device.type == "cuda" else torch.preserve_format  # as in training
        network = deepcopy(self.teacher_network).to(dtype)
        fast = folded(network, image_size=self.data.image_size)
        network, fast = (each.to(self.device).to(memory_format=memory) for each in (network, fast))
        precision = precision or self.teacher_precision
        return LiveTeacher(network, weights="bench", precision=precision, taps=False, fast=fast)

    def table(self, data: Dataset) -> TableTeacher:
        """The teacher read from a table of full size with random rows.

        Building a true one would take minutes, and reading it costs the same whatever it contains.
        """
        assert isinstance(data, ImageDataset)
        key = str(data.digest["train"])
        if key not in self._tables:
            spec = TableSpec.of(data, weights="bench", precision="fp32", device=self.device.type)
            drawn = encode(torch.randn(DRAWN_ROWS, spec.classes, generator=torch.Generator().manual_seed(0)) * 3)
            rows = drawn.repeat(-(-spec.rows // DRAWN_ROWS), 1)[: spec.rows]
            network = deepcopy(self.teacher_network).to(self.device)
            self._tables[key] = TableTeacher(rows, spec=spec, network=network, device=self.device)
        return self._tables[key]

    def taught(self, data: Dataset, *, dtype: torch.dtype, precision: str = "fp32") -> Member:
        """A run of the plan with its live teacher, networks and images in `dtype`."""
        return self.member(data, self.live(precision=precision, dtype=dtype), precision=precision, dtype=dtype)

    def member(
        self,
        data: Dataset,
        teacher: Teacher | None,
        *,
        temperature: float | None = None,
        seed: int | None = None,
        precision: str | None = None,
        epochs: int | None = None,
        world: World = ALONE,
        dtype: torch.dtype = torch.float32,
    ) -> Member:
        """A run of the plan, at another temperature or with another seed; a `teacher` of None leaves cross-entropy.

        `dtype` is that of weights and images; images that are read in bf16 alone are bfloat16.
        """
        plan = self._changed(temperature=temperature, seed=seed, taught=teacher is not None)
        windows = 2 * (self.sizes.rounds + self.sizes.warm_up)
        precision = precision or self.precision
        readers = {precision, self.teacher_precision}
        images = torch.bfloat16 if readers == {"bf16"} else dtype
        return Member(
            name="bench",
            student=plan.network().to(self.device, dtype),
            objective=plan.objective().to(self.device, dtype),
            teacher=teacher,
            recipe=replace(plan.recipe, epochs=epochs or max(plan.recipe.epochs, windows)),
            stream=self.stream(data, seed=plan.seed, dtype=images, world=world),
            evaluation=self.evaluation(data, world=world),
            split=data.split,
            precision=precision,
            seed=plan.seed,
            recorder=Unrecorded(),
            checkpoints=CheckpointSchedule(NEVER),
            world=world,
        )

    def cohort(self, data: Dataset, teacher: Teacher, size: int, *, epochs: int | None = None) -> Sequence[Member]:
        """A sweep of temperatures: one stream, one teacher."""
        return [self.member(data, teacher, temperature=1.0 + n / 2, epochs=epochs) for n in range(size)]

    def engine(self) -> Engine:
        """The engine of a run on this device: captured on CUDA, as with `engine.capture=auto`."""
        if self.device.type != "cuda":
            return Eager()
        return Captured(lambda: CudaLane(self.device), declined=self.note)

    def peer(self, *, taught: bool = True, seed: int | None = None, dtype: torch.dtype = torch.float32) -> PeerLoop:
        """The peer's loop around the same initial weights, in `dtype`."""
        plan = self._changed(seed=seed)
        student = in_nchw(plan.network()).to(self.device, dtype)
        teacher = in_nchw(deepcopy(self.teacher_network)).to(self.device, dtype) if taught else None
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

    def train_loader(self, data: Dataset) -> Loader:
        """The peer's training images."""
        if isinstance(data, PhotoDataset):
            return photo_loader(data, batch_size=self.batch_size, workers=self.sizes.workers)
        assert isinstance(data, ImageDataset)
        key = str(data.digest["train"])
        if key not in self._loaders:
            self._loaders[key] = train_loader(data, batch_size=self.batch_size, workers=self.sizes.workers)
        return self._loaders[key]

    @cached_property
    def validation_loader(self) -> Loader:
        """The peer's evaluation images."""
        assert isinstance(self.data, ImageDataset)
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
