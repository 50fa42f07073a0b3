"""Sums of one epoch, kept on the device and read once at its end."""

import math
from collections.abc import Mapping, Sequence

import torch

from distill.training.world import ALONE, World


class NonFinite(RuntimeError):
    """A loss term or a tensor of the state is infinite or not a number: the run has failed at `epoch`, `step`, `term`.

    `step` is the number of batches done in the epoch before the term, or the state, was found not finite.
    """

    def __init__(self, epoch: int, step: int, term: str) -> None:
        self.epoch, self.step, self.term = epoch, step, term
        super().__init__(
            f"{term} is not finite at epoch {epoch}, step {step}: lower the learning rate or the term's weight"
        )


@torch.no_grad()
def first_non_finite(tensors: Mapping[str, torch.Tensor], device: torch.device) -> str | None:
    """The name of the first floating tensor that holds an infinity or nan. Waits for `device` once.

    It tests the largest magnitude of each tensor; one call computes those of all tensors of a device and type.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    if not floating:
        return None
    kinds: dict[object, list[str]] = {}
    for name, tensor in floating.items():  # an optimizer may keep its step counts on the host
        kinds.setdefault((tensor.device, tensor.dtype), []).append(name)
    order = [name for names in kinds.values() for name in names]
    largest = [
        torch.stack(torch._foreach_norm([floating[name] for name in names], math.inf)).to(device, torch.float64)
        for names in kinds.values()
    ]
    finite = torch.isfinite(torch.cat(largest)).tolist()
    poisoned = {name for name, sound in zip(order, finite, strict=True) if not sound}
    return next((name for name in floating if name in poisoned), None)


class Meters:
    """Loss terms, accuracy, and the first non-finite term of the epoch in progress.

    `add` is part of the step: it waits for nothing and writes only in place, so that it can be captured with it.
    The number of images and of steps is counted on the host by `counted`. `read` and `first_fault` wait for the device.
    Every process of `world` has the sums of all.
    """

    def __init__(self, device: torch.device, world: World = ALONE) -> None:
        self._world = world
        self.terms: tuple[str, ...] = ()
        self.count = 0
        self._steps = 0
        self._device = device
        self._begin(())

    def _begin(self, terms: tuple[str, ...]) -> None:
        self.terms = terms
        # of each term over the images, then right answers: whole numbers, exact in float64
        self._sums = torch.zeros(len(terms) + 1, dtype=torch.float64, device=self._device)
        # for each sum, the number of steps after which it was finite: once a sum is not finite, it stays so
        self._finite_steps = torch.zeros(len(terms) + 1, dtype=torch.int64, device=self._device)

    def add(self, terms: tuple[str, ...], shares: torch.Tensor, hits: torch.Tensor, *, count: int) -> None:
        """Add a batch of `count` images: `shares` (terms,) of the means, in the order of `terms`, and right answers.

        Raises ValueError where the terms are not those of the epoch's first batch.
        """
        if set(self.terms) != set(terms):
            if self.count:
                raise ValueError(
                    f"the loss returned the terms {', '.join(terms)} in step {self._steps} of the epoch and "
                    f"{', '.join(self.terms)} before: return every term in each step, zero where it is off"
                )
            self._begin(terms)
        if terms != self.terms:
            shares = shares[[terms.index(name) for name in self.terms]]
        shares, hits = self._world.sums(shares, hits)
        self._sums[:-1].add_(shares, alpha=count)
        self._sums[-1].add_(hits)
        self._finite_steps.add_((self._sums - self._sums) == 0)  # inf - inf is NaN

    def counted(self, images: int) -> None:
        """Note that a batch of so many images was added."""
        self.count += images
        self._steps += 1

    def reset(self) -> None:
        """Begin another epoch, at the same addresses."""
        self.count = self._steps = 0
        self._sums.zero_()
        self._finite_steps.zero_()

    def first_fault(self) -> tuple[int, str] | None:
        """Step (counted from 0) and term that first were not finite, if any."""
        steps = self._finite_steps[:-1].tolist()
        first = min(steps, default=self._steps)
        return None if first >= self._steps else (first, self.terms[steps.index(first)])

    def read(self) -> dict[str, float]:
        """Means over the epoch so far: `accuracy` in percent, `loss`, and every term by its name."""
        images = max(self.count, 1)
        *sums, correct = self._sums.tolist()
        means = [each / images for each in sums]
        return {"accuracy": 100.0 * correct / images, "loss": sum(means), **dict(zip(self.terms, means, strict=True))}

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint inside an epoch must hold, besides `terms`, `count` and the step."""
        return {"sums": self._sums[:-1], "correct": self._sums[-1]}

    def restore(self, tensors: Mapping[str, torch.Tensor], terms: Sequence[str], *, count: int, step: int) -> None:
        """Continue an epoch where `tensors`, `terms`, `count` and `step` (batches done) left it."""
        self._begin(tuple(terms))
        self.count, self._steps = count, step
        self._sums[:-1] = tensors["sums"]
        self._sums[-1] = tensors["correct"]
        self._finite_steps.fill_(step)
