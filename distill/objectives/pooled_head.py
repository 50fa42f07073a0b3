"""Networks whose classifier reads the average of their last map: what class maps and reused classifiers rest on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from distill.objectives.needs import need_embedding, need_final_map, need_head

if TYPE_CHECKING:
    from distill.models import Network, Output


def need_pooled_head(network: nn.Module, output: Output, *, of: str, image_size: int) -> nn.Linear:
    """The head of a network with logits = head(mean over positions of final_map); `output` is its outline.

    One image is run through a copy in eval mode to see whether the embedding is that mean: a normalisation or a class
    token in between shows in no shape. ValueError where it is not.
    """
    head = need_head(network, of=of)
    widths = need_final_map(output, of=of).shape[1], need_embedding(output, of=of).shape[1], head.in_features
    if len(set(widths)) > 1 or not _reads_the_mean(cast("Network", network), image_size):
        raise ValueError(
            f"{of} must have a classifier that reads the average of its last map: "
            "choose a network that ends in global average pooling and a linear layer"
        )
    return head


@torch.no_grad()
def _reads_the_mean(network: Network, image_size: int) -> bool:
    copied = copy.deepcopy(network).eval()
    if next(network.parameters()).is_meta:
        _fill(copied)
    parameter = next(copied.parameters())
    image = torch.linspace(-2, 2, 3 * image_size**2, dtype=parameter.dtype, device=parameter.device)
    output = copied(image.view(1, 3, image_size, image_size), taps=True)
    final_map, embedding = cast(Tensor, output.final_map), cast(Tensor, output.embedding)
    return torch.allclose(final_map.mean(dim=(2, 3)), embedding, rtol=1e-3, atol=1e-5)


def _fill(network: nn.Module) -> None:
    """Give a network from the meta device some values on the CPU: any will tell how it pools."""
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():  # tensors that are neither parameter nor buffer
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, torch.zeros_like(value, device="cpu"))
    for parameter in network.parameters():
        parameter.uniform_(0.5, 1.0, generator=generator)
        if parameter.ndim > 1:  # weights: outputs as large as inputs
            parameter.sub_(0.75).mul_(7 / (parameter[0].numel() ** 0.5))
    for buffer in network.buffers():
        buffer.fill_(1 if buffer.is_floating_point() else 0)
