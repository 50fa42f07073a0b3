"""Accuracy and cross-entropy of a network on an evaluation stream."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

from distill.data import Batch, OrderedStream
from distill.training.device import autocast
from distill.training.world import ALONE, World


@dataclass(frozen=True)
class Evaluation:
    """Exact counts on an evaluation set; `accuracy` is in percent, `loss` the mean cross-entropy in nats.

    `top5` is the accuracy in percent among the five likeliest classes, None where it is not counted: the records of
    small-image data sets do not have it, and they stay byte for byte what they were.
    """

    correct: int
    count: int
    accuracy: float
    loss: float
    top5: float | None = None

    def __str__(self) -> str:
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.2f} %"
        return f"{self.accuracy:.2f} % ({self.correct} of {self.count}){top5}"

    def as_dict(self) -> dict[str, float]:
        """Plain numbers for metrics.jsonl and result.json."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def agrees(self, recorded: float, *, precision: str, tolerance: float | None = None) -> bool:
        """Whether the accuracy is `recorded` (percent), to `tolerance` points.

        By default 0.1 points or two images, whichever is more. In bf16, where folded BatchNorm, rounded weights and
        another device each move some images to another class, 0.3 points or 30 points divided by the square root of the
        count, whichever is more.
        """
        default = max(0.1, 200.0 / self.count) if precision == "fp32" else max(0.3, 30.0 / self.count**0.5)
        tolerance = default if tolerance is None else tolerance
        return abs(self.accuracy - recorded) <= tolerance + 1e-9


class Tally:
    """A network's correct predictions and summed cross-entropy on the device; `add` does not synchronise and writes in
    place.
    """

    def __init__(self, network: nn.Module, *, precision: str, device: torch.device, top5: bool = False) -> None:
        self.network, self._precision = network, precision
        self._among_five = torch.zeros((), dtype=torch.int64, device=device) if top5 else None
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def clear(self) -> None:
        """Begin anew, at the same addresses."""
        self._correct.zero_()
        if self._among_five is not None:
            self._among_five.zero_()
        self._loss.zero_()

    def add(self, batch: Batch) -> None:
        """Add the predictions for one batch."""
        with autocast(self._precision, batch.images.device):
            logits = self.network(batch.images).logits
        logits = logits.float()
        self._correct.add_((logits.argmax(dim=1) == batch.labels).sum())
        if self._among_five is not None:
            self._among_five.add_((logits.topk(5, dim=1).indices == batch.labels.unsqueeze(1)).sum())
        self._loss.add_(F.cross_entropy(logits, batch.labels, reduction="sum").double())

    def add_up(self, world: World) -> None:
        """Replace the counts by their sums over all processes."""
        world.sum(self._correct)
        world.sum(self._loss)
        if self._among_five is not None:
            world.sum(self._among_five)

    def read(self, count: int) -> Evaluation:
        """The evaluation of `count` images; waits for the device."""
        hits = int(self._correct)
        top5 = None if self._among_five is None else 100.0 * int(self._among_five) / count
        return Evaluation(hits, count, 100.0 * hits / count, float(self._loss) / count, top5)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients inside the block; afterwards in the mode it was in."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)


def evaluate(network: nn.Module, stream: OrderedStream, *, precision: str, world: World = ALONE) -> Evaluation:
    """Run `network` in eval mode over `stream` and leave it in the mode it was in. One host read, at the end.

    Every process of `world` runs it on its part of the images, and gets the counts of all.
    """
    tally = Tally(network, precision=precision, device=stream.device, top5=stream.top5)
    return evaluate_together([tally], stream, world)[0]


def evaluate_together(tallies: Sequence[Tally], stream: OrderedStream, world: World) -> list[Evaluation]:
    """The same for the networks of several tallies, in one pass over the images."""
    with ExitStack() as stack:
        for tally in tallies:
            stack.enter_context(evaluating(tally.network))
        for batch in stream:
            for tally in tallies:
                tally.add(batch)
    for tally in tallies:
        tally.add_up(world)
    return [tally.read(stream.count) for tally in tallies]
