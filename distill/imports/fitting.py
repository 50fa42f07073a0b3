"""Whether tensors are those of a network: every name and shape compared, every difference told."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from distill.imports.files import printable

# networks of timm, torchvision and the user's own lie in a wrapper that their own checkpoints do not know
WRAPPED = "network."
COUNTER = "num_batches_tracked"  # BatchNorm has it since torch 0.4.1
SHOWN = 10


@dataclass(frozen=True)
class Misfit:
    """The differences between a file and a network, by name; empty (false) where there is none."""

    reshaped: Mapping[str, tuple[Size, Size]]
    missing: Mapping[str, Size]
    unexpected: Mapping[str, Size]

    def __bool__(self) -> bool:
        return bool(self.reshaped or self.missing or self.unexpected)

    @property
    def classes(self) -> tuple[int, int] | None:
        """The numbers of classes of file and network, where nothing else differs."""
        if self.missing or self.unexpected or any(found[1:] != own[1:] for found, own in self.reshaped.values()):
            return None
        pairs = {(found[0], own[0]) for found, own in self.reshaped.values() if found and own}
        return next(iter(pairs)) if len(pairs) == 1 else None

    def summary(self) -> str:
        """`2 of another shape, 30 missing in the file, 1 unknown to the network`."""
        counts = (
            (len(self.reshaped), "of another shape"),
            (len(self.missing), "missing in the file"),
            (len(self.unexpected), "unknown to the network"),
        )
        return ", ".join(f"{count} {what}" for count, what in counts if count)

    def lines(self) -> list[str]:
        """One line for each of the first differences, and how many there are beside them."""
        pairs = self.reshaped.items()
        told = [
            f"{printable(n)}: {_shape(found)} in the file, {_shape(own)} in the network" for n, (found, own) in pairs
        ]
        told += [f"{printable(n)}: not in the file, {_shape(own)} in the network" for n, own in self.missing.items()]
        told += [f"{printable(n)}: {_shape(found)} in the file, unknown" for n, found in self.unexpected.items()]
        rest = len(told) - SHOWN
        return told if rest <= 0 else [*told[:SHOWN], f"and {rest} more"]


def aligned(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the names of the network's state dict `own`, where only a rule lies between them.

    A wrapper's prefix is added, and a counter of BatchNorm that files of torch 0.4.0 lack begins at 0, as torch
    itself reads such files.
    """
    wrapped = all(name.startswith(WRAPPED) for name in own) and not any(name.startswith(WRAPPED) for name in tensors)
    named = {f"{WRAPPED}{name}" if wrapped else name: tensor for name, tensor in tensors.items()}
    counters = [name for name in own if name.endswith(f".{COUNTER}")]
    if not any(name in named for name in counters):
        named |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
    return named


def misfit(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Misfit:
    """How aligned tensors differ from a network's state dict; meta tensors will do for either."""
    common = [name for name in own if name in tensors]
    return Misfit(
        reshaped={n: (tensors[n].shape, own[n].shape) for n in common if tensors[n].shape != own[n].shape},
        missing={name: tensor.shape for name, tensor in own.items() if name not in tensors},
        unexpected={name: tensor.shape for name, tensor in tensors.items() if name not in own},
    )


def _shape(shape: Size) -> str:
    return "x".join(map(str, shape)) or "a single number"
