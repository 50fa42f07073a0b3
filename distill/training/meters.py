"""Sums of one epoch, kept on the device and read once at its end."""

from collections.abc import Mapping, Sequence

import torch

from distill.training.world import ALONE, World


class NonFinite(RuntimeError):
    """A loss term or a tensor of the state is infinite or not a number: the run has failed at `epoch`, `step`, `term`.

    `step` counts the batches of the epoch before the one whose term it was, or before the state was found poisoned.
    """

    def __init__(self, epoch: int, step: int, term: str) -> None:
        self.epoch, self.step, self.term = epoch, step, term
        super().__init__(
            f"{term} is not finite at epoch {epoch}, step {step}: lower the learning rate or the term's weight"
        )


def first_non_finite(tensors: Mapping[str, torch.Tensor], device: torch.device) -> str | None:
    """The name of the first floating tensor that holds an infinity or nan. Waits for `device` once."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return None
    # an optimizer may keep its step counts on the host
    finite = torch.stack([torch.isfinite(tensor).all().to(device) for tensor in floating.values()])
    return None if bool(finite.all()) else list(floating)[int(finite.long().argmin())]


NEVER = -1


class Meters:
    """Loss terms, accuracy, and the first non-finite term of the epoch in progress.

    `update` is part of the step: it waits for nothing and writes only in place, so that it can be captured with it.
    The number of images is counted on the host by `counted`. `read` and `first_fault` wait for the device.
    Every process of `world` has the sums of all.
    """

    def __init__(self, device: torch.device, world: World = ALONE) -> None:
        self._world = world
        self.terms: tuple[str, ...] = ()
        self.count = 0
        self._device = device
        self._sums = torch.zeros(0, dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._fault = torch.full((2,), NEVER, dtype=torch.int64, device=device)  # step, index of the term

    def update(
        self, terms: Mapping[str, torch.Tensor], logits: torch.Tensor, labels: torch.Tensor, *, count: int
    ) -> None:
        """Add a batch of `count` images: shares of its terms (0-d), logits (B, K) and labels (B,) of the rows here."""
        if not self.count and set(self.terms) != set(terms):
            self.terms = tuple(terms)
            self._sums = torch.zeros(len(terms), dtype=torch.float64, device=self._device)
        own = len(self._world.part.rows(count))  # without a row that stands in
        hits = (logits.detach()[:own].argmax(dim=1) == labels[:own]).sum()
        shares = [terms[name].detach().double() for name in self.terms]
        *_, hit = sums = self._world.sum(torch.stack([*shares, hits.double()]))
        values = sums[:-1]
        self._sums.add_(values * count)
        self._correct.add_(hit.long())
        finite = torch.isfinite(values)
        fault = torch.stack([self._step, finite.long().argmin()])
        self._fault.copy_(torch.where((self._fault[0] == NEVER) & ~finite.all(), fault, self._fault))
        self._step.add_(1)

    def counted(self, images: int) -> None:
        """Note that a batch of so many images was added."""
        self.count += images

    def reset(self) -> None:
        """Begin another epoch, at the same addresses."""
        self.count = 0
        for tensor in (self._sums, self._correct, self._step):
            tensor.zero_()
        self._fault.fill_(NEVER)

    def first_fault(self) -> tuple[int, str] | None:
        """Step (counted from 0) and term that first were not finite, if any."""
        step, term = self._fault.tolist()
        return None if step == NEVER else (step, self.terms[term])

    def read(self) -> dict[str, float]:
        """Means over the epoch so far: `accuracy` in percent, `loss`, and every term by its name."""
        means = (self._sums / max(self.count, 1)).tolist()
        accuracy = 100.0 * int(self._correct) / max(self.count, 1)
        return {"accuracy": accuracy, "loss": sum(means), **dict(zip(self.terms, means, strict=True))}

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint inside an epoch must hold, besides `terms`, `count` and the step."""
        return {"sums": self._sums, "correct": self._correct}

    def restore(self, tensors: Mapping[str, torch.Tensor], terms: Sequence[str], *, count: int, step: int) -> None:
        """Continue an epoch where `tensors`, `terms`, `count` and `step` (batches done) left it."""
        self.terms, self.count = tuple(terms), count
        self._sums = tensors["sums"].to(self._device)
        self._correct = tensors["correct"].to(self._device)
        self._step.fill_(step)
