"""An optimizer's state as a checkpoint holds it: tensors by name, and plain values."""

from collections.abc import Mapping
from typing import Any

import torch

Plain = dict[str, Any]


def flattened(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], Plain]:
    """Tensors by `INDEX/NAME`, as in `0/momentum_buffer`; the rest of the state as JSON has it, keys being text."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Plain] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def unflattened(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> Plain:
    """What `load_state_dict` takes, from the two halves of `flattened`."""
    state: dict[int, Plain] = {int(index): dict(entries) for index, entries in plain["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": plain["param_groups"]}
