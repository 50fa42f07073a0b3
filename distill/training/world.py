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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from distill.data import Batch, Part
from distill.losses import Objective, batch_sum
from distill.models import Output

T = TypeVar("T")
TIMEOUT = timedelta(seconds=120)  # of a collective of a training step
PATIENCE = timedelta(days=30)  # rank 0 may wait for another command's run; the death of a process is noticed at once
BUCKET_BYTES = 25 * 2**20  # of gradients that are summed together
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class ProcessLost(RuntimeError):
    """Another process of the world has ended or does not answer; what is saved can be resumed."""


class NotAcross(RuntimeError):
    """This network or objective cannot be trained by several processes; the text is one sentence."""


@dataclass(frozen=True, eq=False)
class World:
    """`size` processes, of which this is number `rank`; `local_rank` of `local_size` on this machine.

    Every method but `own` is a collective: all processes call it, in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    control: "distributed.ProcessGroup | None" = None  # gloo, patient: decisions of the host
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
        """Rank 0 carries out the block before the others do: what it leaves on the disk they find."""
        if self.rank > 0:
            self.any(False)
        try:
            yield
        finally:
            if self.rank == 0:
                self.any(False)

    def whole_batch(self, count: int, *, rows: int) -> AbstractContextManager[object]:
        """Inside the block, networks on `rows` rows of a batch of `count` images compute as on the whole batch."""
        return nullcontext() if self.size == 1 else WholeBatch(self, count, rows)

    def terms(
        self, objective: Objective, student: Output, teacher: Output | None, batch: Batch, progress: Tensor, count: int
    ) -> dict[str, Tensor]:
        """This process's share of the objective's terms on a batch of `count` images: shares add up to the term.

        An objective that is relational sees the outputs of the whole batch, in every process; a gradient flows to the
        own rows. Any other sees the own rows, and its mean counts as much as they are.
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
    except RuntimeError as error:  # of gloo a plain one
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
    on the CUDA device of its local rank. Rank 0 alone prints; of the others only an unforeseen error is seen.
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
        # torchrun keeps its store over a restart, and in it the addresses of processes that are no more
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


class WholeBatch(TorchFunctionMode):
    """BatchNorm, dropout and drop path as on a batch of `count` images, of which this process has its rows.

    `rows` is the number of rows it feeds: its own, or one that stands in where it has none, so that it takes part in
    every collective. Calls of torch are replaced, not modules: what a network's own layers call is found as well.

    Raises NotAcross for another call that draws random numbers: their order would differ from that of one process.
    """

    def __init__(self, world: World, count: int, rows: int) -> None:
        super().__init__()
        self.world, self.count, self.rows = world, count, rows
        self.own = world.part.rows(count)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replacement = REPLACED.get(function)
        if replacement is not None:
            return replacement(self, *args, **(kwargs or {}))
        if function in DRAWING:
            raise NotAcross(
                f"random numbers from torch's {function.__name__} cannot be drawn by several processes as by one: "
                "train in one process, or, if it is the loss that draws them, declare it relational"
            )
        return function(*args, **(kwargs or {}))

    def each(self, tensor: Tensor) -> int:
        """How many rows of `tensor` belong to one image; 0 where its first dimension is not the batch."""
        whole, rest = divmod(len(tensor), self.rows)
        return 0 if rest else whole

    def counted(self, tensor: Tensor) -> Tensor:
        """The rows that count: all, or none of those that stand in."""
        return tensor if self.own else tensor[:0]

    def batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """`functional.batch_norm` with the statistics of the whole batch."""
        each = self.each(x)
        if training and each and self.world.local_norm:
            result = functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
            for running in (running_mean, running_var):
                if running is not None:
                    self.world.from_first(running)
            return result
        if not (training and each):
            return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        values = each * self.count * x[0, 0].numel()
        if values == 1:
            raise ValueError(f"BatchNorm needs more than 1 value per channel while training, got {tuple(x.shape)}")
        result, mean, variance = _BatchNorm.apply(x, weight, bias, self, values, eps)
        with torch.no_grad():
            if running_mean is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            if running_var is not None:
                running_var.lerp_((variance * (values / (values - 1))).to(running_var.dtype), momentum)
        return result

    def drawn(self, draw: Callable[[tuple[int, ...]], Tensor], like: Tensor) -> Tensor:
        """This process's rows of `draw(shape)`, which draws for the whole batch."""
        each = self.each(like)
        if not each:
            return draw(tuple(like.shape))
        whole = draw((each * self.count, *like.shape[1:]))
        first = self.own.start if self.own else 0
        return whole[each * first :][: len(like)]

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`functional.dropout` with the mask of the whole batch."""
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        memory = torch.channels_last if last else torch.contiguous_format  # masks are drawn in the order of the memory

        def factors(shape: tuple[int, ...]) -> Tensor:
            return functional.dropout(x.new_ones(shape).contiguous(memory_format=memory), p)

        return _scaled(x, self.drawn(factors, x), inplace) if training and p > 0 else x

    def channel_dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`functional.dropout2d`, and `dropout1d` and `dropout3d` of batches, with the mask of the whole batch."""
        thin = x.flatten(2)[:, :, :1].view(*x.shape[:2], *[1] * (x.dim() - 2))

        def factors(shape: tuple[int, ...]) -> Tensor:
            return torch.feature_dropout(x.new_ones(shape), p, True)

        return _scaled(x, self.drawn(factors, thin), inplace) if training and p > 0 else x

    def bernoulli_(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor.bernoulli_`, by which drop path decides for each sample."""
        return tensor.copy_(self.drawn(lambda shape: tensor.new_empty(shape).bernoulli_(*args, **kwargs), tensor))

    def attention(self, *args: Any, dropout_p: float = 0.0, **kwargs: Any) -> Tensor:
        """`functional.scaled_dot_product_attention`, whose own dropout is out of reach."""
        if dropout_p > 0:
            raise NotAcross(
                f"dropout {dropout_p} inside torch's attention cannot be drawn by several processes as by one: "
                "set it to 0, or train in one process"
            )
        return functional.scaled_dot_product_attention(*args, **kwargs)

    def batch_sum(self, x: Tensor, **options: Any) -> Tensor:
        """`batch_sum` over the rows of all processes."""
        return self.world.sum(batch_sum(self.counted(x), **options))


REPLACED: Mapping[Any, Callable[..., Any]] = {
    functional.batch_norm: WholeBatch.batch_norm,
    functional.dropout: WholeBatch.dropout,
    functional.dropout1d: WholeBatch.channel_dropout,
    functional.dropout2d: WholeBatch.channel_dropout,
    functional.dropout3d: WholeBatch.channel_dropout,
    functional.scaled_dot_product_attention: WholeBatch.attention,
    torch.Tensor.bernoulli_: WholeBatch.bernoulli_,
    batch_sum: WholeBatch.batch_sum,
}
DRAWING = {
    *(functional.alpha_dropout, functional.feature_alpha_dropout, functional.gumbel_softmax),
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.randint_like),
    *(torch.bernoulli, torch.multinomial, torch.normal, torch.poisson),
    *(torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.random_, torch.Tensor.exponential_),
}


def _scaled(x: Tensor, factors: Tensor, inplace: bool) -> Tensor:
    return x.mul_(factors) if inplace else x * factors


class _BatchNorm(torch.autograd.Function):
    """BatchNorm over the rows of all processes, the variance from a second pass over the deviations."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, batch: WholeBatch, values: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        dims, own = [0, *range(2, x.dim())], batch.counted(x)
        kind = torch.promote_types(x.dtype, torch.float32)
        mean = batch.world.sum(own.sum(dims, dtype=kind)) / values
        deviations = own.to(kind) - _channels(mean, x)
        variance = batch.world.sum((deviations * deviations).sum(dims)) / values
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.batch, ctx.values, ctx.eps = batch, values, eps
        ctx.mark_non_differentiable(mean, variance)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> Any:
        x, weight, mean, variance = ctx.saved_tensors
        dims = [0, *range(2, x.dim())]
        scale = torch.rsqrt(variance + ctx.eps)
        normal = (x.to(mean.dtype) - _channels(mean, x)) * _channels(scale, x)
        gradient = gradient.to(mean.dtype)
        sums = torch.stack([gradient.sum(dims), (gradient * normal).sum(dims)])
        own_bias, own_weight = sums.clone()
        mean_gradient, mean_product = ctx.batch.world.sum(sums) / ctx.values
        inner = gradient - _channels(mean_gradient, x) - normal * _channels(mean_product, x)
        factor = scale if weight is None else scale * weight
        to_x = (inner * _channels(factor, x)).to(x.dtype) if ctx.batch.own else torch.zeros_like(x)
        affine = (None, None) if weight is None else (own_weight.to(weight.dtype), own_bias.to(weight.dtype))
        return to_x, *affine, None, None, None


def _channels(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (like.dim() - 2))


class _Rows(torch.autograd.Function):
    """The rows of all processes; the gradient of the own rows counts for all processes, which compute it alike."""

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
