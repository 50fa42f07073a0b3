"""Several processes that train one run, each on its part of every batch; one process is the world of size 1.

Every process holds the same weights, optimizer and generators and takes its rows of each batch. What depends on the
whole batch is computed over the whole batch: BatchNorm's mean and variance, the masks of dropout, the losses that
compare samples. Gradients are summed. A run therefore gives the same numbers, up to rounding, for every number of
processes.
"""

import importlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from distill.data import Batch, Part
from distill.losses import Objective
from distill.models import Output
from distill.training.whole_batch import WholeBatch

T = TypeVar("T")
TIMEOUT = timedelta(seconds=120)  # for one collective of a training step
PATIENCE = timedelta(days=30)  # rank 0 may wait for another command's run; the death of a process is noticed at once
BUCKET_BYTES = 25 * 2**20  # gradients that are summed together
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessLost(RuntimeError):
    """Another process of the world has ended or does not answer; what is saved can be resumed."""


@dataclass(frozen=True, eq=False)
class World:
    """`size` processes, of which this is number `rank`; `local_rank` of `local_size` on this machine.

    Every method but `own` is a collective: all processes call it, in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    control: "distributed.ProcessGroup | None" = None  # gloo with a long timeout, for decisions on the host
    local_norm: bool = False  # BatchNorm over the rows of a process (recipe.batch_norm=local)

    @property
    def part(self) -> Part:
        """The rows that this process takes of every batch."""
        return Part(self.rank, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with _reported():
                distributed.all_reduce(tensor)
        return tensor

    def sums(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The sums of several tensors over all processes, in float64 and at once; alone the tensors themselves."""
        if self.size == 1:
            return tensors
        flat = self.sum(torch.cat([tensor.double().flatten() for tensor in tensors]))
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return tuple(part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True))

    def from_first(self, tensor: Tensor) -> None:
        """Give every process rank 0's values, in place."""
        with _reported():
            distributed.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        if self.size == 1:
            return flag
        count = torch.tensor(int(flag))
        with _reported():
            distributed.all_reduce(count, group=self.control)
        return bool(count)

    def first(self, action: Callable[[], T]) -> T:
        """Rank 0 carries out `action`; every process gets what it returned, or raises what it raised."""
        if self.size == 1:
            return action()
        ending: list[Any] = [None, None]
        if self.rank == 0:
            try:
                ending[0] = action()
            except Exception as error:
                ending[1] = _sendable(error)
        with _reported():
            distributed.broadcast_object_list(ending, src=0, group=self.control)
        if ending[1] is not None:
            raise ending[1]
        result: T = ending[0]
        return result

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 carries out the block first, then one process of each other machine, then all others.

        Each finds what those before it left on the disk, on a shared one or on its own machine's.
        """
        turn = 0 if self.rank == 0 else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.any(False)
        try:
            yield
        finally:
            for _ in range(turn, 2):
                self.any(False)

    def whole_batch(self, count: int, *, rows: int) -> AbstractContextManager[object]:
        """Inside the block, networks on `rows` rows of a batch of `count` images compute as on the whole batch."""
        return nullcontext() if self.size == 1 else WholeBatch(self, count, rows)

    def terms(
        self, objective: Objective, student: Output, teacher: Output | None, batch: Batch, progress: Tensor, count: int
    ) -> dict[str, Tensor]:
        """This process's share of the objective's terms on a batch of `count` images: shares add up to the term.

        A relational objective gets the outputs of the whole batch in every process; the gradient flows to the process's
        own rows. Any other objective gets the own rows alone, and its mean is weighted by their number.
        """
        if self.size == 1:
            return objective(student, teacher, batch, progress)
        if objective.relational:
            whole = _Gathering(self, count, objective)
            terms = objective(whole.output(student), whole.output(teacher), whole.batch(batch), progress)
            return {name: term / self.size for name, term in terms.items()}
        with self.whole_batch(count, rows=len(batch.labels)):
            terms = objective(student, teacher, batch, progress)
        share = len(self.part.rows(count)) / count
        return {name: term * share for name, term in terms.items()}

    def gradients(self, parameters: Sequence[torch.nn.Parameter]) -> "GradientSum":
        """Sums the gradients of every later backward pass; `finish` it before the optimizer's step."""
        return GradientSum(self, parameters)


ALONE = World()


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo raises a plain RuntimeError
        reason = str(error).strip().splitlines()[0]
        raise ProcessLost(
            f"another process of this run has ended or does not answer ({reason}): type the command again to go on"
        ) from error


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@cache
def this_world() -> World:
    """The world that torchrun, or submitit with `tasks_per_node` under Slurm, started this process in.

    Joined once a process. Gradients travel by NCCL where tensors lie on CUDA devices, else by gloo; a process computes
    on the CUDA device of its local rank. Rank 0 alone prints; the others print only unforeseen errors.
    """
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        submitit = importlib.import_module("submitit.helpers")  # of an optional extra, which started this process
        submitit.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if any(name not in os.environ for name in LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
        return ALONE
    rank, size, local_rank, local_size = (int(os.environ[name]) for name in LAUNCHED[:4])
    gpus = torch.cuda.device_count()
    if local_rank < gpus:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if local_rank < gpus else "gloo"
    with _reported():
        store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
        # torchrun keeps its store over a restart, with the addresses of processes that have ended
        store = distributed.distributed_c10d.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        control = distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(control, distributed.ProcessGroup)
    if rank > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of this process
        sys.excepthook = partial(traceback.print_exception, file=sys.__stderr__)
    return World(rank, size, local_rank, local_size, control)


class GradientSum:
    """Sums gradients over the processes while the backward pass goes on.

    Gradients are collected in the order in which they become complete, which is the same in every process, and each
    full bucket is sent off at once. One process has nothing to sum.
    """

    def __init__(self, world: World, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._world = world
        self._waiting: list[Tensor] = []
        self._flights: list[tuple[list[Tensor], Tensor, Any]] = []
        if world.size > 1:
            for parameter in parameters:
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    def _arrived(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        if self._waiting and self._waiting[0].dtype != parameter.grad.dtype:
            self._send()
        self._waiting.append(parameter.grad)
        if sum(each.nbytes for each in self._waiting) >= BUCKET_BYTES:
            self._send()

    def _send(self) -> None:
        gradients, self._waiting = self._waiting, []
        flat = torch.cat([each.reshape(-1) for each in gradients])
        with _reported():
            self._flights.append((gradients, flat, distributed.all_reduce(flat, async_op=True)))

    def finish(self) -> None:
        """Wait, on CUDA in the stream alone, until every gradient is the sum over the processes."""
        if self._waiting:
            self._send()
        for gradients, flat, work in self._flights:
            with _reported():
                work.wait()
            parts = torch.split(flat, [each.numel() for each in gradients])
            torch._foreach_copy_(gradients, [p.view(g.shape) for p, g in zip(parts, gradients, strict=True)])
        self._flights.clear()


class _Rows(torch.autograd.Function):
    """The rows of all processes. All compute one gradient, so that of the own rows counts once for each process."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, count: int) -> Tensor:
        own = world.part.rows(count)
        ctx.own, ctx.size, ctx.shape = own, world.size, rows.shape
        whole = rows.new_zeros((count, *rows.shape[1:]))
        if own:
            whole[own.start : own.stop] = rows
        return world.sum(whole)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if not ctx.own:
            return gradient.new_zeros(ctx.shape), None, None
        return gradient[ctx.own.start : ctx.own.stop] * ctx.size, None, None


@dataclass(frozen=True)
class _Gathering:
    """Outputs and batches of all processes, as far as the objective reads them."""

    world: World
    count: int
    objective: Objective

    def rows(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else _Rows.apply(tensor, self.world, self.count)

    def output(self, output: Output | None) -> Any:
        if output is None:
            return None
        reads = self.objective.reads
        changed = {}
        for each in fields(output):
            value = getattr(output, each.name)
            if each.name == "strong":
                changed[each.name] = self.output(value)
            elif each.name == "logits" or reads is None or each.name in reads:
                many = isinstance(value, tuple)
                changed[each.name] = tuple(self.rows(part) for part in value) if many else self.rows(value)
        return replace(output, **changed)

    def batch(self, batch: Batch) -> Batch:
        images = {} if self.objective.reads is not None else {"images": batch.images, "strong": batch.strong}
        known = {"labels": batch.labels, "index": batch.index, "view": batch.view, **images}
        changed: Any = {name: self.rows(tensor) for name, tensor in known.items()}
        return replace(batch, **changed)
