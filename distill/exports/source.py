"""What an export is made of."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from distill.exports.loading import LoadedNetwork
from distill.runs.store import RunRecord


class Logits(nn.Module):
    """A network that returns its logits alone: exported programs know tensors only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run, its network (CPU, eval), the side of its images, whether to round its weights to fp16.

    Rounding concerns files of weights alone: a program computes in the type that it holds.
    """

    record: RunRecord
    network: LoadedNetwork
    image_size: int
    half: bool

    @cached_property
    def program(self) -> ExportedProgram:
        """The network traced by torch.export for any batch size; it holds no path of this machine."""
        images = torch.zeros(2, 3, self.image_size, self.image_size)  # a batch of 1 would be taken for the only one
        with torch.no_grad():
            program = torch.export.export(
                Logits(self.network).eval(), (images,), dynamic_shapes={"images": {0: Dim("batch")}}
            )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)
        return program
