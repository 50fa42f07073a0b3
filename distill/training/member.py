"""A member of a cohort: one student, and everything that trains and records it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import nn

from distill.data import Batch, OrderedStream, Stream
from distill.losses import Objective, Task
from distill.models import Output, on_both_views
from distill.teachers import Teacher
from distill.training.device import autocast, forget_peak, peak_memory
from distill.training.evaluation import Evaluation
from distill.training.gradients import gradient_norms
from distill.training.lean_forward import LeanForward
from distill.training.meters import Meters, NonFinite, first_non_finite
from distill.training.optimizer import WeightAverage, build_optimizer, flattened, set_rates
from distill.training.optimizer import restore as restore_optimizer
from distill.training.randomness import OwnRandomness, seeded
from distill.training.recipe import Recipe
from distill.training.world import ALONE, World

MEASUREMENTS = 24  # of gradient norms in a run


class Recorder(Protocol):
    """Receives a member's metrics and checkpoints: a run directory, or a list in a test."""

    def log_epoch(self, metrics: Mapping[str, Any]) -> None: ...
    def log_timing(self, timing: Mapping[str, Any]) -> None: ...
    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, object]) -> None: ...
    def finish(
        self,
        result: Mapping[str, Any],
        *,
        weights: Mapping[str, torch.Tensor],
        averaged: Mapping[str, torch.Tensor] | None,
    ) -> object: ...
    def fail(self, failure: Mapping[str, Any]) -> None: ...


class Checkpoints(Protocol):
    """Decides when a checkpoint is due, so that saving stays cheap."""

    def due(self) -> bool: ...
    def saving(self) -> AbstractContextManager[None]: ...


def weigh(
    world: World,
    objective: Objective,
    output: Output,
    teacher: Output | None,
    batch: Batch,
    progress: torch.Tensor,
    count: int,
) -> tuple[tuple[str, ...], torch.Tensor, torch.Tensor]:
    """The names of the loss terms on a batch of `count` images, this process's shares of them (terms,), whose sum is
    to be minimised, and the right answers of the rows here.
    """
    terms = world.terms(objective, output, teacher, batch, progress, count)
    own = len(world.part.rows(count))  # without the stand-in row of a process that has no images
    hits = (output.logits.detach()[:own].argmax(dim=1) == batch.labels[:own]).sum()
    return tuple(terms), torch.stack([*terms.values()]), hits


class Member:
    """One student in training, with its position, its metrics and its checkpoints. `fit` drives it.

    `epoch` counts from 1 and names the epoch in progress, `step` the batches done in it; `progress`, a 0-d tensor on
    the device, is the position in reference epochs and is written in place. `forward` and `weigh` are what a training
    step calls: the student and the function of that name, or both compiled. `captured_steps` counts the steps that
    were replayed from a captured one.
    `facts` go into the result as they are, `conditions` (threads, versions) into every checkpoint. `first_stage` are
    the weights from which a method of two stages starts. `average` is the average of the weights, where the recipe has
    one. Gradient norms are measured every `norms_every` epochs, by default so that a run has about 24, and after the
    last. Every process of `world` moves the member alike; rank 0 alone records.
    """

    def __init__(
        self,
        *,
        name: str,
        student: nn.Module,
        objective: Objective,
        teacher: Teacher | None,
        recipe: Recipe,
        stream: Stream,
        evaluation: OrderedStream,
        split: str,
        precision: str,
        seed: int,
        recorder: Recorder,
        checkpoints: Checkpoints,
        facts: Mapping[str, Any] | None = None,
        conditions: Mapping[str, Any] | None = None,
        first_stage: Mapping[str, torch.Tensor] | None = None,
        norms_every: int | None = None,
        world: World = ALONE,
    ) -> None:
        self.device = stream.device
        with seeded(seed, "attach"):  # what an objective adds starts from the run's own seed
            task = Task(stream.image_size, torch.tensor(stream.labels))
            deployed = objective.attach(student, None if teacher is None else teacher.network, task)
        if first_stage is not None:
            objective.start(student, first_stage)
        objective.smooth_labels(recipe.label_smoothing)
        self.student = (student if deployed is None else deployed).to(self.device)
        self.objective = objective.to(self.device)
        if self.device.type == "cuda":  # the batches' memory format: otherwise every convolution converts its weights
            self.student.to(memory_format=torch.channels_last)
            self.objective.to(memory_format=torch.channels_last)
        self.forward: Callable[..., Output] = self.student
        self.weigh = weigh
        self._ones: torch.Tensor | None = None
        self._lean = LeanForward(self.student, cast=precision == "bf16" and world.size == 1)
        self.name, self.teacher, self.recipe = name, teacher, recipe
        self.stream, self.evaluation, self.split = stream, evaluation, split
        self.precision, self.recorder, self.checkpoints = precision, recorder, checkpoints
        self.taps, self.world = not objective.logits_only, world
        self.norms_every = norms_every or max(1, recipe.epochs // MEASUREMENTS)
        # each once, also where an objective holds a part of the deployed network
        learned = dict.fromkeys([*self.student.parameters(), *objective.parameters()])
        self.optimizer, self._base_rates = build_optimizer(recipe.optimizer, list(learned), self.device)
        self.average = None if recipe.ema is None else WeightAverage(self.student, self.optimizer, decay=recipe.ema)
        self.gradients = world.gradients(list(learned))
        self.rates = self._base_rates
        self.randomness = OwnRandomness(seed, self.device)
        self.meters = Meters(self.device, world)
        self.progress = torch.zeros((), device=self.device)
        self.epoch, self.step, self.captured_steps = 1, 0, 0
        self.seconds = self.epoch_seconds = 0.0
        self.peak_memory = 0
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.error: Exception | None = None
        self.last_train: dict[str, float] = {}
        self._facts, self.conditions = dict(facts or {}), dict(conditions or {})
        self._lap: Callable[[], float] = lambda: 0.0

    @property
    def active(self) -> bool:
        """Whether there is training left to do."""
        return self.error is None and self.epoch <= self.recipe.epochs

    def predict(self, batch: Batch) -> Output:
        """The student's output on a batch, and on its strong view where there is one."""
        lean = self._lean if self.forward is self.student else nullcontext()  # torch.compile does the same
        with autocast(self.precision, batch.images.device), lean:
            output = on_both_views(self.forward, batch.images, batch.strong, taps=self.taps)
        return output.with_full_logits()

    def backward(self, shares: torch.Tensor) -> None:
        """Fill in the gradients of the sum of `shares` (terms,)."""
        if self._ones is None or self._ones.shape != shares.shape:
            self._ones = torch.ones_like(shares)
        torch.autograd.backward(shares, self._ones)
        self._lean.collect_gradients()
        self.gradients.finish()

    def begin_epoch(self, lap: Callable[[], float]) -> None:
        """Set the epoch's learning rate; meters go on where a checkpoint inside the epoch left them.

        `lap` gives the seconds since it was last called, by any member: what they count adds up to the wall time.
        """
        self._lap = lap
        forget_peak(self.device)
        self.student.train()
        self.objective.train()
        factor = self.recipe.schedule(self.epoch, self.recipe.epochs)
        self.rates = [base * factor for base in self._base_rates]
        set_rates(self.optimizer, self.rates)
        self._mark_progress()

    def batch_count(self, step: int | None = None) -> int:
        """Images of the batch of `step`, by default of the next one, in all processes."""
        done = (self.step if step is None else step) * self.stream.batch_size
        return min(self.stream.batch_size, self.stream.count - done)

    def advance(self) -> None:
        """Note that the next batch was trained on, and save where a checkpoint is due."""
        self.meters.counted(self.batch_count())
        self.step += 1
        self._mark_progress()
        self.spend()
        if self.world.any(self.checkpoints.due()):
            self.checkpoint()

    def end_epoch(self, measured: Evaluation, average: Evaluation | None, *, seconds: float) -> Evaluation:
        """Record the epoch, and move to the next; the last one writes the result.

        Args:
            measured: of the student.
            average: of the student with its averaged weights, where it has them.
            seconds: this member's share of the time that evaluating took.
        """
        train_seconds = self.epoch_seconds
        self.spend(seconds)
        averaged = {} if average is None else {"ema": average.as_dict()}
        entry = {"epoch": self.epoch, **measured.as_dict()}
        self.last = {**entry, **averaged}
        if not self.best or measured.correct > self.best["correct"]:
            self.best = entry
        timing = {
            "epoch": self.epoch,
            "seconds": train_seconds,
            "images_per_second": self.meters.count / max(train_seconds, 1e-9),
            "peak_memory_bytes": (peak := peak_memory(self.device)),
        }
        self.peak_memory = max(self.peak_memory, peak or 0)
        if self.captured_steps:
            timing["captured_steps"] = self.captured_steps  # of the run so far
        due = self.epoch % self.norms_every == 0 or self.epoch == self.recipe.epochs
        norms = gradient_norms(self) if due else {}
        timing["evaluation_seconds"] = seconds + self.spend()  # of all that is measured in between
        self.last_train = self.meters.read()
        metrics = {
            "epoch": self.epoch,
            "train": self.last_train,
            self.split: measured.as_dict(),
            **averaged,
            "learning_rate": self.rates[0],
            **({"gradient_norms": norms} if norms else {}),
        }
        self.world.first(lambda: self.recorder.log_timing(timing))
        self.world.first(lambda: self.recorder.log_epoch(metrics))
        self.epoch, self.step, self.epoch_seconds = self.epoch + 1, 0, 0.0
        self.meters.reset()
        if not self.active:
            self._finish()
        elif self.world.any(self.checkpoints.due()):
            self.checkpoint()
        return measured

    def check_finite(self) -> None:
        """Raise `NonFinite` where a term was, or a tensor of the resume state is, not finite."""
        fault = self.meters.first_fault()
        if fault is not None:
            raise NonFinite(self.epoch, *fault)
        tensor = first_non_finite(self.state()[0], self.device)
        if tensor is not None:
            raise NonFinite(self.epoch, self.step, tensor)

    def checkpoint(self) -> None:
        """Save all resume state; a poisoned one is refused, so that the last good state stays."""
        self.check_finite()
        self.spend()
        with self.checkpoints.saving():
            self.world.first(lambda: self.recorder.save(*self.state()))

    def stop(self, error: Exception) -> None:
        """End this member alone, for the reason `error`; the others of its cohort go on."""
        self.error = error
        if isinstance(error, NonFinite):
            failure = {"epoch": error.epoch, "step": error.step, "term": error.term, "message": str(error)}
            self.world.first(lambda: self.recorder.fail(failure))

    def fail(self, message: str) -> None:
        """Record that training cannot go on from here."""
        failure = {"epoch": self.epoch, "step": self.step, "term": "", "message": message}
        self.world.first(lambda: self.recorder.fail(failure))

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """All resume state: tensors by name, and plain values."""
        tensors = {f"student/{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"objective/{k}": v for k, v in self.objective.state_dict().items()}
        tensors |= {f"randomness/{k}": v for k, v in self.randomness.state.items()}
        tensors |= {f"meters/{k}": v for k, v in self.meters.tensors().items()}
        tensors |= {f"ema/{k}": v for k, v in self.average.tensors.items()} if self.average else {}
        moments, optimizer = flattened(self.optimizer, self.rates)
        tensors |= {f"optimizer/{k}": v for k, v in moments.items()}
        return tensors, {
            "epoch": self.epoch,
            "step": self.step,
            "terms": list(self.meters.terms),
            "count": self.meters.count,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "peak_memory": self.peak_memory,
            "captured_steps": self.captured_steps,
            "last": self.last,
            "best": self.best,
            "conditions": self.conditions,
            "optimizer": optimizer,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Continue where `state()` of the same run left off."""

        def part(name: str) -> dict[str, torch.Tensor]:
            # copies: optimizer and meters would go on writing into the tensors given
            return {k.removeprefix(f"{name}/"): v.clone() for k, v in tensors.items() if k.startswith(f"{name}/")}

        self.student.load_state_dict(part("student"))
        self.objective.load_state_dict(part("objective"))
        self.randomness.state = part("randomness")
        if self.average:
            self.average.load(part("ema"))
        restore_optimizer(self.optimizer, part("optimizer"), state["optimizer"])
        self.meters.restore(part("meters"), state["terms"], count=state["count"], step=state["step"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.seconds, self.epoch_seconds = state["seconds"], state["epoch_seconds"]
        self.peak_memory, self.captured_steps = state.get("peak_memory", 0), state.get("captured_steps", 0)
        self.last, self.best = dict(state["last"]), dict(state["best"])

    def _finish(self) -> None:
        result = {
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory or None,
            "parameters": sum(p.numel() for p in self.student.parameters()),
            "epochs": self.recipe.epochs,
            "split": self.split,
            "last": self.last,
            "best": self.best,
            "precision": self.precision,
            **({"captured_steps": self.captured_steps} if self.captured_steps else {}),
            **self._facts,
        }
        weights, averaged = self.student.state_dict(), self.average.state_dict() if self.average else None
        self.world.first(lambda: self.recorder.finish(result, weights=weights, averaged=averaged))

    def _mark_progress(self) -> None:
        done = self.epoch - 1 + self.step / self.stream.steps
        self.progress.fill_(self.recipe.progress(done))

    def spend(self, seconds: float | None = None) -> float:
        """Count `seconds` as this member's, by default those since the last call by any member."""
        spent = self._lap() if seconds is None else seconds
        self.seconds += spent
        self.epoch_seconds += spent
        return spent
