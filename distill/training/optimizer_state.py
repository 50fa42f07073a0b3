"""An optimizer's state as a checkpoint holds it: tensors by name, and plain values."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Plain = dict[str, Any]
# how an optimizer is carried out here: never taken over from a checkpoint
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
    """Take over the two halves of `flattened`, of a fused optimizer or not; what is done how stays as it is here."""
    state: dict[int, Plain] = {int(index): dict(entries) for index, entries in plain["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    own = [{key: group[key] for key in OWN if key in group} for group in optimizer.param_groups]
    groups = [{**group, **mine} for group, mine in zip(plain["param_groups"], own, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group, mine in zip(optimizer.param_groups, own, strict=True):
        group.update(mine)  # it has loaded copies: of a learning rate too, which is to be the one that is set
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            # a checkpoint is contiguous, a parameter may be channels_last; fused kernels walk both side by side
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
