"""A student's forward in fewer operations: what torch does layer by layer is done for all layers at once.

On a GPU a small network's step takes time in proportion to its number of operations. Nothing here changes a number in
fp32.
"""

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm

from distill.models import autocast_weights

COUNTER = "num_batches_tracked"


class LeanForward:
    """A context for the forward of `network`; `collect_gradients` follows the backward.

    - BatchNorm's counters of batches are raised by one operation at the end of the block. This applies to layers with
      torch's own forward that do not read the counter (`momentum` is set); the others count as usual.
    - With `cast`, for autocast to bf16: the weights of convolutions and linear layers are cast by one operation at the
      start of the block, and their gradients by one in `collect_gradients`.
    """

    def __init__(self, network: nn.Module, *, cast: bool) -> None:
        self._norms = [module for module in network.modules() if _counts_alone(module)]
        self._places = autocast_weights.places(network) if cast else []
        full = dict.fromkeys(module._parameters[name] for module, name in self._places)  # a shared weight once
        self._full: list[Tensor] = [weight for weight in full if weight is not None]
        self._cast: list[Tensor] = [
            Parameter(weight.detach().to(torch.bfloat16), requires_grad=weight.requires_grad) for weight in self._full
        ]
        self._batches: list[_Batches] = []
        self._counters: list[Tensor | None] = []

    def __enter__(self) -> None:
        self._counters = [module._buffers[COUNTER] for module in self._norms]
        self._batches = [_Batches() for _ in self._norms]
        for module, batches in zip(self._norms, self._batches, strict=True):
            module._buffers[COUNTER] = batches  # type: ignore[assignment]
        if self._full:
            with torch.no_grad():
                torch._foreach_copy_(self._cast, self._full)
            self._swap(dict(zip(self._full, self._cast, strict=True)))

    def __exit__(self, *exc: object) -> None:
        for module, counter in zip(self._norms, self._counters, strict=True):
            module._buffers[COUNTER] = counter
        raised = [(c, b.count) for c, b in zip(self._counters, self._batches, strict=True) if c is not None and b.count]
        if raised:
            torch._foreach_add_([counter for counter, _ in raised], [count for _, count in raised])
        self._swap(dict(zip(self._cast, self._full, strict=True)))

    def collect_gradients(self) -> None:
        """Add the gradients of the cast weights to those of the weights."""
        reached = [(f, c.grad) for f, c in zip(self._full, self._cast, strict=True) if c.grad is not None]
        if not reached:
            return
        grads = [torch.empty_like(weight) for weight, _ in reached]
        torch._foreach_copy_(grads, [low for _, low in reached])
        for (weight, _), grad in zip(reached, grads, strict=True):
            weight.grad = grad if weight.grad is None else weight.grad.add_(grad)
        for low in self._cast:
            low.grad = None

    def _swap(self, instead: dict[Tensor, Tensor]) -> None:
        for module, name in self._places:
            module._parameters[name] = instead[module._parameters[name]]  # type: ignore[index, assignment]


class _Batches:
    """Stands in for a counter: it counts on the host."""

    count = 0

    def add_(self, batches: int) -> None:
        self.count += batches


def _counts_alone(module: nn.Module) -> bool:
    return (
        isinstance(module, _BatchNorm)
        and type(module).forward is _BatchNorm.forward
        and module.momentum is not None
        and module.num_batches_tracked is not None
    )
