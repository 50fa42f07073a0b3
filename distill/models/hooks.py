"""Reading tensors inside networks that have no interface for it, by hooks that live for one forward pass."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The dict fills with each module's output, in the order in which the modules finish."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.pop(name, None)  # a module that runs twice counts where it ran last
                seen[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def inputs_of(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The list fills with what each layer reads, in the order of execution."""
    seen: list[Tensor] = []
    handles = [layer.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0])) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def embedding_of(read: Sequence[Tensor]) -> Tensor | None:
    """(B, D) from what the classifier's layers read: maps are averaged, several inputs stand side by side."""
    vectors = [x if x.ndim == 2 else x.mean(dim=tuple(range(2, x.ndim))) for x in read]
    return torch.cat(vectors, dim=1) if vectors else None


def classifier_layers(head: nn.Module | Sequence[nn.Module], *, num_classes: int) -> list[nn.Module]:
    """The layers of `head` that give the logits."""
    parts = [head] if isinstance(head, nn.Module) else list(head)
    layers = [layer for part in parts for layer in part.modules()]
    return [layer for layer in layers if channels_out(layer) == num_classes]


def sole_linear(layers: Sequence[nn.Module]) -> nn.Linear | None:
    """The one layer that gives the logits, None where there are several or it is a convolution."""
    sole = layers[0] if len(layers) == 1 else None
    return sole if isinstance(sole, nn.Linear) else None


def channels_in(layer: nn.Module) -> int:
    """Inputs of a linear layer or a convolution, 0 for anything else."""
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels if isinstance(layer, nn.Conv2d) else 0


def channels_out(layer: nn.Module) -> int:
    """Outputs of a linear layer or a convolution, 0 for anything else."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else 0
