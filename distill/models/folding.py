"""BatchNorm folded into the convolutions before it: the same logits, in fewer passes over the maps."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from distill.models.contract import Output

Pair = tuple[str, str]  # the names of a convolution and of the BatchNorm that reads it

IMAGES = 2
EXACT = 1e-9  # of the largest logit in float64: rounding is below 1e-11, a wrong pair far above


def folded(network: nn.Module, *, image_size: int) -> nn.Module:
    """A frozen copy of `network` in eval mode with BatchNorm folded away where possible. Only its logits equal
    those of the original, up to rounding.

    No graph is traced: a BatchNorm whose input is the very tensor that a convolution returned is folded into that
    convolution. A trial on a copy, in float64 and with random statistics, shows that no other operation reads or
    overwrites the tensor. Pairs that would change the logits stay as they are. If a network cannot be tried, or there
    is nothing to fold, the network itself is returned.

    Args:
        network: gives an `Output` of images (B, 3, S, S); neither it nor its mode is changed.
        image_size: S, in pixels. The copy is right for other sizes as far as the network runs the same layers there.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    try:
        pairs = foldable(network, image_size=image_size)
    except Exception:  # of any network: it is run unfolded, and its own error appears there
        return network
    return _fold(_frozen(network), pairs) if pairs else network


def foldable(network: nn.Module, *, image_size: int) -> list[Pair]:
    """The pairs of convolution and BatchNorm that can be folded together without a change of the logits."""
    twin = _with_random_statistics(_frozen(network).to("cpu", torch.float64))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, 3, image_size, image_size, dtype=torch.float64, generator=generator)
    with torch.no_grad(), _adjacent(twin) as pairs:
        expected = _logits(twin, images)

    def holds(tried: list[Pair]) -> bool:
        with torch.no_grad():
            found = _logits(_fold(copy.deepcopy(twin), tried), images)
        return bool((found - expected).abs().max() <= EXACT * expected.abs().max())

    if holds(pairs):
        return pairs
    sound = [pair for pair in pairs if holds([pair])]
    return sound if holds(sound) else []


def _frozen(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    output: Output = network(images)
    return output.logits


def _with_random_statistics(network: nn.Module) -> nn.Module:
    """Gives every BatchNorm random values: an untrained one, or one of scale 0, would hide a wrong pair."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                if tensor is not None:
                    tensor.normal_(std=0.5, generator=generator)
            for tensor in (module.running_var, module.weight):
                if tensor is not None:
                    tensor.uniform_(0.5, 1.5, generator=generator)
    return network


@contextmanager
def _adjacent(network: nn.Module) -> Iterator[list[Pair]]:
    """Yields a list that a forward pass in the block fills with the pairs that it runs through."""
    given: list[tuple[Tensor, int, str]] = []
    found: list[Pair] = []

    def after_convolution(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            given.append((output, output._version, name))

        return hook

    def before_norm(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read = inputs[0] if inputs else None
            # a sum made in place (`out += shortcut`) is the convolution's tensor too, in a later version
            found.extend((c, name) for t, version, c in given if t is read and t._version == version)

        return hook

    modules = dict(network.named_modules())
    convolutions = [name for name, module in modules.items() if _has_a_weight(module)]
    norms = [name for name, module in modules.items() if _rest(module) is not None]
    handles = [modules[name].register_forward_hook(after_convolution(name)) for name in convolutions]
    handles += [modules[name].register_forward_pre_hook(before_norm(name)) for name in norms]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _has_a_weight(module: nn.Module) -> bool:
    """A convolution whose weight can be set: no parametrization computes it."""
    return isinstance(module, nn.Conv2d) and "weight" in module._parameters


def _rest(module: nn.Module) -> nn.Module | None:
    """What a BatchNorm computes after its normalisation: in timm's class, an activation. None for a module that is no
    BatchNorm with running statistics, or of another class.
    """
    if not isinstance(module, nn.BatchNorm2d) or module.running_mean is None or module.running_var is None:
        return None
    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    parts: list[Any] = [getattr(module, name, None) for name in ("drop", "act")]
    return nn.Sequential(*parts) if all(isinstance(part, nn.Module) for part in parts) else None


def _fold(network: nn.Module, pairs: Iterable[Pair]) -> nn.Module:
    """`network` itself, with these pairs folded."""
    modules: dict[str, Any] = dict(network.named_modules())
    instead: dict[nn.Module, nn.Module] = {}
    for name, norm_name in pairs:
        convolution, norm = modules[name], modules[norm_name]
        weight, bias = _folded_weights(convolution, norm)
        convolution.weight, convolution.bias = weight, bias
        rest = _rest(norm)
        assert rest is not None
        instead[norm] = rest.eval()
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child in instead:
                module._modules[name] = instead[child]
    return network


def _folded_weights(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Computed in float64, so that the weights are rounded once; in the convolution's type and memory format."""

    def exact(tensor: Tensor | None, otherwise: Tensor) -> Tensor:
        return (otherwise if tensor is None else tensor.detach()).to(torch.float64)

    assert norm.running_mean is not None
    assert norm.running_var is not None
    zeros = torch.zeros_like(norm.running_mean)
    weight, bias = fuse_conv_bn_weights(
        exact(convolution.weight, zeros),
        exact(convolution.bias, zeros),
        exact(norm.running_mean, zeros),
        exact(norm.running_var, zeros),
        norm.eps,
        exact(norm.weight, zeros + 1),
        exact(norm.bias, zeros),
    )

    def rounded(tensor: Tensor) -> nn.Parameter:
        return nn.Parameter(tensor.detach().to(convolution.weight.dtype), requires_grad=False)

    return rounded(weight), rounded(bias)
