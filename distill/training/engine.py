"""Engines, which carry out the steps of `fit`: the protocol, the eager engine, and compiled networks."""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol

import torch

from distill.data import Batch, Stream
from distill.models import Output
from distill.training.evaluation import Evaluation, Tally, evaluate_together
from distill.training.member import Member, weigh

Batches = Mapping[object, Batch]  # of each stream of the cohort by its key


class Engine(Protocol):
    """Carries out training steps. Engines differ in time, and at most in the last bits of the results."""

    def batches(self, stream: Stream, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; each may be overwritten by the next."""
        ...

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        """Train each member on the batch of its stream; yields them as they are done, or queued on the device."""
        ...

    def evaluate(self, members: Sequence[Member]) -> list[Evaluation]:
        """The evaluation of each member's student, in one pass over the evaluation stream that all share."""
        ...


class Eager:
    """Runs the members one after another, without capturing."""

    def batches(self, stream: Stream, epoch: int, start: int) -> Iterator[Batch]:
        return stream.epoch(epoch, start=start)

    def train(self, members: Sequence[Member], batches: Batches) -> Iterator[Member]:
        # one forward per teacher and stream, shared by the members
        outputs: dict[object, Output] = {}
        for member in members:
            batch = batches[member.stream.key]
            target = None
            if member.teacher is not None:
                key = (member.teacher.key, member.stream.key)
                if key not in outputs:
                    with member.world.whole_batch(member.batch_count(), rows=len(batch.labels)):
                        outputs[key] = member.teacher(batch)
                target = outputs[key]
            with member.randomness:
                train_step(member, batch, target, count=member.batch_count())
            yield member

    def evaluate(self, members: Sequence[Member]) -> list[Evaluation]:
        return evaluate_together([tally_of(member) for member in members], members[0].evaluation, members[0].world)


def tally_of(member: Member) -> Tally:
    """An empty tally for the member's student."""
    top5 = member.evaluation.top5
    return Tally(member.student, precision=member.precision, device=member.device, top5=top5)


def train_step(member: Member, batch: Batch, teacher: Output | None, *, count: int) -> None:
    """Forward, loss, backward, step, meters: nothing in it waits for the device or reads the host.

    To be called inside `member.randomness`. Everything it reads from one step to the next lies in tensors that are
    written in place (`member.progress`, learning rates, meters), and its shapes depend on the batch's alone. `count`
    are the images of the whole batch, of which this process may have a part.
    """
    with member.world.whole_batch(count, rows=len(batch.labels)):
        output = member.predict(batch)
    terms, shares, hits = member.weigh(member.world, member.objective, output, teacher, batch, member.progress, count)
    member.optimizer.zero_grad(set_to_none=True)
    member.backward(shares)
    member.optimizer.step()
    member.meters.add(terms, shares.detach(), hits, count=count)


# What torch.compile compiles in training: the students' networks (`engine.compile=true`), and on CUDA what surrounds
# them in a long run, the loss and the teacher.
#
# A network's compiled form holds no weight, temperature, learning rate or schedule, so none of them is a reason to
# compile it again, and members with equal networks share it. The loss is compiled for each objective with
# different numbers. There are two shapes, the full batch and the remainder. Evaluation is not compiled, as in
# `distill evaluate`.

COMPILERS = ("g++", "clang++", "c++", "cl")
VARIANTS = 256  # compiled forms of networks that one process may hold: two shapes each, and architectures


WORTH_COMPILING = 100_000  # steps after which compiling has saved the time it takes: an estimate, not measured yet


@contextmanager
def compiled_surroundings(members: Sequence[Member]) -> Iterator[None]:
    """Inside the block, compile live teachers, and the loss with its gradient as one function.

    The loss of objectives that read nothing but logits: dozens of operations on (B, K) become a few kernels.
    """
    compile_teachers(members)
    chosen = [member for member in members if member.objective.logits_only]
    for member in chosen:
        member.weigh = torch.compile(weigh, dynamic=False)
    with _compiling():
        try:
            yield
        finally:
            for member in chosen:
                member.weigh = weigh


def compile_teachers(members: Sequence[Member]) -> None:
    """Compile each teacher that runs a network; a table has nothing to compile."""
    for member in members:
        compile_teacher = getattr(member.teacher, "compile", None)
        if compile_teacher is not None:
            compile_teacher()


@contextmanager
def compiled(members: Sequence[Member]) -> Iterator[None]:
    """Inside the block, compile the networks of the members; compiling itself happens at their first steps."""
    compile_teachers(members)
    for member in members:
        member.forward = torch.compile(member.student, dynamic=False)
    with _compiling():
        try:
            yield
        finally:
            for member in members:
                member.forward = member.student


@contextmanager
def _compiling() -> Iterator[None]:
    """Room for all compiled forms, without two of torch's warnings.

    One recommends TensorFloat32 for fp32 matrix products: they are exact on purpose. The other is about reading the
    `.grad` of logits: the compiler itself reads that of every tensor.
    """
    with (
        torch._dynamo.config.patch(recompile_limit=VARIANTS, accumulated_recompile_limit=VARIANTS),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        yield


def why_not_compiled(device: torch.device) -> str | None:
    """What torch.compile lacks on this machine to make code for `device`; None where nothing is missing."""
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "triton is not installed"
    names = [name for name in (os.environ.get("CXX"), *COMPILERS) if name]
    return None if any(map(shutil.which, names)) else f"there is no C++ compiler ({', '.join(names)})"


@lru_cache
def compiled_trial(device: torch.device) -> str | None:
    """Compile a short function for `device`: None where that works, else the error (triton may find no C compiler)."""
    try:
        torch.compile(lambda x: (2 * x).softmax(0).sum())(torch.ones(8, device=device))
    except Exception as error:  # of any layer below
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None
