"""The weights that autocast to bf16 casts before every use, so that they can be cast once instead."""

import copy

import torch
from torch import nn

CAST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
FORWARDS = {layer.forward for layer in CAST}


def places(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """Layer and name of each float32 weight and bias of a convolution or a linear layer.

    Of layers with torch's own forward, whose weights are parameters: no parametrization computes them.
    """
    layers = [module for module in network.modules() if isinstance(module, CAST) and type(module).forward in FORWARDS]
    found = [(layer, name, layer._parameters.get(name)) for layer in layers for name in ("weight", "bias")]
    return [(layer, name) for layer, name, each in found if each is not None and each.dtype == torch.float32]


def with_cast_weights(network: nn.Module) -> nn.Module:
    """A frozen copy whose weights are bf16 where autocast would cast them: the same outputs under autocast."""
    changed = copy.deepcopy(network).requires_grad_(False)
    for layer, name in places(changed):
        layer._parameters[name] = nn.Parameter(getattr(layer, name).to(torch.bfloat16), requires_grad=False)
    return changed
