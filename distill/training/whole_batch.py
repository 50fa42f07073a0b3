"""BatchNorm, dropout and drop path of a forward pass, computed over the batch of all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from distill.losses import batch_sum, values_per_channel

if TYPE_CHECKING:
    from distill.training.world import World

REFUSAL = (
    "something other than dropout and drop path has drawn random numbers, and several processes would draw others than "
    "one does: train in one process, set dropout inside torch's attention to 0, or set a drawing loss's `relational`"
)


class NotAcross(RuntimeError):
    """This network or objective cannot be trained by several processes; the text is one sentence."""


class WholeBatch(TorchFunctionMode):
    """BatchNorm, dropout and drop path as on a batch of `count` images, of which this process has its rows.

    `rows` is the number of rows it feeds: its own, or one that stands in where it has none, so that it takes part in
    every collective. Calls of torch are replaced, not modules: what a network's own layers call is found as well.

    Raises NotAcross where anything else has drawn random numbers: they would differ from those of one process. To find
    out, it compares the states of torch's own generators before and after; what puts the state back is not noticed.
    """

    def __init__(self, world: World, count: int, rows: int) -> None:
        super().__init__()
        self.world, self.count, self.rows = world, count, rows
        self.own = world.part.rows(count)

    def __enter__(self) -> Self:
        self._states = _generator_states()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if kind is None:
            self._check_draws()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        replacement = REPLACED.get(function)
        if replacement is not None:
            return replacement(self, *args, **kwargs)
        if kwargs.get("generator") is not None:  # one of the network's own, whose state is not watched
            raise NotAcross(REFUSAL)
        return function(*args, **kwargs)

    def _check_draws(self) -> None:
        # a GPU's generator may be missing in the first of the two, before its first use
        for before, now in zip(self._states, _generator_states(), strict=False):
            if not torch.equal(before, now):
                raise NotAcross(REFUSAL)

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
            # a single value has no deviation: the running statistics stand in, as they are before the exchange
            single = x[:, 0].numel() == 1
            mean, variance = (s.clone() if single and s is not None else s for s in (running_mean, running_var))
            result = functional.batch_norm(x, mean, variance, weight, bias, not single, momentum, eps)
            for running in (running_mean, running_var):
                if running is not None:
                    self.world.from_first(running)
            return result
        if not (training and each):
            return functional.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        values = self.values_per_channel(x)
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
        self._check_draws()
        each = self.each(like)
        whole = draw((each * self.count, *like.shape[1:]) if each else tuple(like.shape))
        self._states = _generator_states()
        if not each:
            return whole
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

    def values_per_channel(self, x: Tensor) -> int:
        """`values_per_channel` of the whole batch."""
        return self.each(x) * self.count * x[0, 0].numel() if self.each(x) else values_per_channel(x)

    def batch_sum(self, x: Tensor, **options: Any) -> Tensor:
        """`batch_sum` over the rows of all processes."""
        return self.world.sum(batch_sum(self.counted(x), **options))


REPLACED: Mapping[Any, Callable[..., Any]] = {
    functional.batch_norm: WholeBatch.batch_norm,
    functional.dropout: WholeBatch.dropout,
    functional.dropout1d: WholeBatch.channel_dropout,
    functional.dropout2d: WholeBatch.channel_dropout,
    functional.dropout3d: WholeBatch.channel_dropout,
    torch.Tensor.bernoulli_: WholeBatch.bernoulli_,
    batch_sum: WholeBatch.batch_sum,
    values_per_channel: WholeBatch.values_per_channel,
}


def _generator_states() -> list[Tensor]:
    """The states of the default generators, of the CPU and of this device, which are kept on the host."""
    states = [torch.default_generator.get_state()]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states.append(torch.cuda.default_generators[torch.cuda.current_device()].get_state())
    return states


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
