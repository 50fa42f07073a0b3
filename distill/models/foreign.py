"""Networks from elsewhere: modules that return only logits, hooks that read tensors inside a network, library names."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from distill.models.contract import Network, Output, check_num_classes

CONTRACT = ("feature_channels", "embedding_dim", "num_classes")


class LogitsOnly(Network):
    """Any module that maps images to a tensor of logits (B, K). It has no taps: only logit losses can use it.

    Its parameters are named `network.*`. Raises ValueError from the forward pass where the module returns
    something else.
    """

    def __init__(self, network: nn.Module, *, num_classes: int) -> None:
        check_num_classes(num_classes)
        super().__init__()
        self.num_classes = num_classes
        self.network = network

    @property
    def head(self) -> None:
        """None: the input of the module's last layer is unknown."""

    def forward(self, images: Tensor, *, taps: bool = False) -> Output:
        logits = self.network(images)
        expected = (images.shape[0], self.num_classes)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            name = type(self.network).__name__
            raise ValueError(
                f"{name} must return logits of shape {expected}, got {got}: return that tensor, "
                f"or declare {', '.join(CONTRACT)} and return distill.models.Output"
            )
        return Output(logits)


def as_network(module: nn.Module, *, num_classes: int) -> Network:
    """`module` itself where it declares the contract's attributes, else `LogitsOnly(module)`."""
    if all(hasattr(module, attribute) for attribute in CONTRACT):
        return cast(Network, module)
    return LogitsOnly(module, num_classes=num_classes)


def check_name(name: str, known: Collection[str], *, library: str) -> None:
    """ValueError with the nearest names unless `name` is one of `known`."""
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    fix = f"did you mean {', '.join(near)}?" if near else f"see {library}'s list_models()"
    raise ValueError(f"name must be a {library} network, got {name!r}: {fix}")


@contextmanager
def outputs_of(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Yields a dict that fills with each module's output, in the order in which the modules finish."""
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
    """Yields a list that fills with each layer's input, in the order of execution."""
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
