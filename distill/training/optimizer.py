"""Builds a recipe's optimizer, fused where torch supports it, and the moving average of the weights.

The learning rate is in a tensor, so that captured steps see changes.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

Build = Callable[[Iterable[Parameter]], Optimizer]
FORMS = ("fused", "foreach", "differentiable")  # if a recipe sets one of these, its choice stands

_known: dict[tuple[object, str, str], bool] = {}


def build_optimizer(
    build: Build, parameters: Sequence[Parameter], device: torch.device
) -> tuple[Optimizer, list[float]]:
    """`build(parameters)`, and the learning rate of each group as the recipe states it.

    It is fused where its class supports it, it works here, and the recipe does not set it otherwise.

    One kernel then does what several per parameter do (measured on a CPU: SGD and AdamW take a quarter of the time),
    to rounding. A fused optimizer's learning rate is a 0-d tensor on the device, to be changed by `set_rates`:
    float64 on a CPU, where it is as exact as a number, and float32 on an accelerator, whose kernels read that.
    """
    fuses = _fuses(build, device)
    optimizer = (_fused(build) if fuses else build)(parameters)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    if fuses:
        _put_on_device(optimizer, device)
    return optimizer, rates


def is_fused(optimizer: Optimizer) -> bool:
    """Whether its learning rate lies on the device, in every group."""
    return all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)


def set_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Set the learning rate of every group, in place where it is a tensor."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _put_on_device(optimizer: Optimizer, device: torch.device) -> None:
    kind = torch.float64 if device.type == "cpu" else torch.float32
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], dtype=kind, device=device)
        if "capturable" in group and device.type == "cuda":
            group["capturable"] = True  # Adam-like optimizers need it to be captured


def _fuses(build: Build, device: torch.device) -> bool:
    """Whether the optimizer has a fused form that works: tried with one step, once per class, options and device."""
    chosen: dict[str, Any] = build.keywords if isinstance(build, partial) else {}
    kind = build.func if isinstance(build, partial) else build
    if any(form in chosen for form in FORMS) or not _takes_fused(kind):
        return False
    key = (kind, device.type, repr(sorted(chosen.items())))
    if key not in _known:
        _known[key] = _works(build, device)
    return _known[key]


def _takes_fused(kind: object) -> bool:
    try:
        return inspect.isclass(kind) and issubclass(kind, Optimizer) and "fused" in inspect.signature(kind).parameters
    except (TypeError, ValueError):  # a class without a signature
        return False


def _works(build: Build, device: torch.device) -> bool:
    parameter = Parameter(torch.zeros(2, device=device))
    parameter.grad = torch.ones_like(parameter)
    try:
        optimizer = _fused(build)([parameter])
        _put_on_device(optimizer, device)
        optimizer.step()
        return bool(parameter.isfinite().all())
    except (RuntimeError, TypeError, ValueError):  # no such kernel for this device or type
        return False


def _fused(build: Any) -> Build:
    return partial(build, fused=True)


Plain = dict[str, Any]
# settings of this process that are never taken from a checkpoint
OWN = ("lr", "fused", "foreach", "capturable")


def flattened(optimizer: torch.optim.Optimizer, rates: Sequence[float]) -> tuple[dict[str, torch.Tensor], Plain]:
    """Tensors by `INDEX/NAME`, as in `0/momentum_buffer`; the rest of the state as JSON has it, keys being text.

    `rates` are the groups' learning rates as numbers: where they are tensors, those are not saved.
    """
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Plain] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    groups = [{**group, "lr": rate} for group, rate in zip(state["param_groups"], rates, strict=True)]
    return tensors, {"state": plain, "param_groups": groups}


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
    """Take over the two halves of `flattened`, of any optimizer; fused and foreach stay as set in this process."""
    state: dict[int, Plain] = {int(index): dict(entries) for index, entries in plain["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    own = [{key: group[key] for key in OWN if key in group} for group in optimizer.param_groups]
    groups = [{**group, **mine} for group, mine in zip(plain["param_groups"], own, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group, mine in zip(optimizer.param_groups, own, strict=True):
        group.update(mine)  # with the tensor of the learning rate that the schedule writes to
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            # a checkpoint is contiguous, a parameter may be channels_last; fused kernels walk both side by side
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


class WeightAverage:
    """An exponential moving average of a network's weights and BatchNorm statistics.

    It begins with the network's values; after every step of `optimizer` it becomes decay * average + (1 - decay) *
    network. Whole numbers (BatchNorm's counters) are not averaged. Everything is written in place and nothing waits
    for the device, so that it is part of a captured step.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, *, decay: float) -> None:
        self._network, self._decay = network, decay
        self.tensors = {name: value.clone() for name, value in self._averaged().items()}
        optimizer.register_step_post_hook(lambda *_: self._update())

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state of a network with the averaged values."""
        return {**self._network.state_dict(), **self.tensors}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the `tensors` of the same network's average."""
        for name, mine in self.tensors.items():
            mine.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the network itself has the averaged values; afterwards its own again, to the bit."""
        own = {name: value.clone() for name, value in self._averaged().items()}
        self._write(self.tensors)
        try:
            yield
        finally:
            self._write(own)

    def _averaged(self) -> dict[str, Tensor]:
        """The network's floating-point state, as it lies in the network."""
        return {name: value for name, value in self._network.state_dict().items() if value.is_floating_point()}

    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, mine in self._averaged().items():
            mine.copy_(values[name])

    @torch.no_grad()
    def _update(self) -> None:
        torch._foreach_lerp_([*self.tensors.values()], [*self._averaged().values()], 1 - self._decay)
