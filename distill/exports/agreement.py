"""Whether an exported network says what the original says."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_BATCHES = (1, 7, 64)  # several sizes, because an export may have kept the one it was traced with


@dataclass(frozen=True)
class Agreement:
    """Two networks on the same images.

    largest     largest difference of a logit
    tolerance   what it may be, in the same units
    equal       images with equal predictions, of `count`
    decided     whether every unequal prediction is a tie of the original's, within the tolerance
    """

    largest: float
    tolerance: float
    equal: int
    count: int
    decided: bool

    @property
    def holds(self) -> bool:
        """Whether the two are one; a number that is not finite never is."""
        return self.largest <= self.tolerance and self.decided

    def __str__(self) -> str:
        return (
            f"largest difference of a logit {self.largest:.2g} (tolerance {self.tolerance:.2g}), "
            f"{self.equal} of {self.count} predictions equal"
        )


@torch.no_grad()
def logits_of(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(N, K) float32, computed in batches of several sizes."""
    batches: list[Tensor] = []
    for size in _BATCHES:
        batches.append(images[:size])
        images = images[size:]
    batches += torch.split(images, _BATCHES[-1])
    return torch.cat([model(batch).float() for batch in batches if len(batch)])


def compare(found: Tensor, original: Tensor, *, tolerance: float) -> Agreement:
    """Compare logits (N, K); `tolerance` is a share of the original's largest logit (of 1 where all are smaller).

    ValueError where the shapes differ.
    """
    if found.shape != original.shape:
        raise ValueError(f"it gives logits of shape {tuple(found.shape)} for {tuple(original.shape)}")
    absolute = tolerance * max(1.0, float(original.abs().max()))
    predicted = found.argmax(dim=1)
    lost = original.max(dim=1).values - original.gather(1, predicted.unsqueeze(1)).squeeze(1)
    return Agreement(
        largest=float((found - original).abs().max()),
        tolerance=absolute,
        equal=int((predicted == original.argmax(dim=1)).sum()),
        count=len(original),
        decided=bool((lost <= absolute).all()),
    )
