"""Sums of one epoch, kept on the device and read once at its end."""

from collections.abc import Mapping, Sequence

import torch

NEVER = -1


class Meters:
    """Loss terms, accuracy, and the first non-finite term of the epoch in progress.

    Nothing here waits for the device: `update` only adds, `read` and `first_fault` synchronise.
    """

    def __init__(self, device: torch.device) -> None:
        self.terms: tuple[str, ...] = ()
        self._device = device
        self._sums = torch.zeros(0, dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._fault = torch.full((2,), NEVER, dtype=torch.int64, device=device)  # step, index of the term
        self.count = 0

    def update(self, terms: Mapping[str, torch.Tensor], logits: torch.Tensor, labels: torch.Tensor, step: int) -> None:
        """Add one batch: weighted terms (0-d), student logits (B, K), labels (B,), position in the epoch."""
        if not self.terms:
            self.terms = tuple(terms)
            self._sums = torch.zeros(len(terms), dtype=torch.float64, device=self._device)
        values = torch.stack([terms[name].detach().double() for name in self.terms])
        self._sums += values * len(labels)
        self._correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.count += len(labels)
        finite = torch.isfinite(values)
        fault = torch.stack([torch.full_like(self._fault[0], step), finite.long().argmin()])
        self._fault = torch.where((self._fault[0] == NEVER) & ~finite.all(), fault, self._fault)

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
        """What a checkpoint inside an epoch must hold, besides `terms` and `count`."""
        return {"sums": self._sums, "correct": self._correct}

    def restore(self, tensors: Mapping[str, torch.Tensor], terms: Sequence[str], count: int) -> None:
        """Continue an epoch where `tensors`, `terms` and `count` left it."""
        self.terms, self.count = tuple(terms), count
        self._sums = tensors["sums"].to(self._device)
        self._correct = tensors["correct"].to(self._device)
