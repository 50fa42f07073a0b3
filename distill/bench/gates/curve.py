"""The loss of the first steps, ours against the peer's, from equal weights on equal batches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from distill.bench.gates.gate import Gate, within
from distill.bench.peer import PeerLoop, cropped, normalised
from distill.data import ImageDataset
from distill.training import Engine, Evaluation, Member, fit

STEPS = 10
EXACT, BF16 = 1e-4, 5e-2  # relative


def curve(
    name: str,
    member: Member,
    peer: Callable[[], PeerLoop],
    data: ImageDataset,
    *,
    limit: float,
    what: str,
    engine: Engine | None = None,
) -> Gate:
    """The loss of every step of an epoch within `limit` of the peer's, relative; beside what mere memory format makes.

    Args:
        name: the gate's.
        member: at the start of its training.
        peer: makes a loop that starts from the same weights.
        data: of the member's stream.
        limit: relative.
        what: is measured, for the sentence.
        engine: carries out our steps.
    """
    batches = [
        (normalised(cropped(data, batch.index.tolist(), batch.view.cpu()), data), batch.labels.cpu())
        for batch in member.stream.epoch(1)
    ]
    expected = _losses(peer(), batches)
    other = peer()
    other.memory_format = torch.channels_last
    for network in (other.student, other.teacher):
        if network is not None:
            network.to(memory_format=torch.channels_last)
    format_alone = _apart(_losses(other, batches), expected)
    watch = _Losses()
    fit([member], watch=watch, stop_requested=lambda: len(watch.values) >= len(expected), engine=engine)
    return within(
        name,
        {"relative": (_apart(watch.values, expected), limit)},
        what=f"{what}, {len(expected)} steps, largest difference from the peer's",
        besides=f"; channels_last alone makes {format_alone:.1e} in the peer",
    )


def _losses(peer: PeerLoop, batches: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    return [peer.step(images, labels)[0] for images, labels in batches]


def _apart(found: Sequence[float], expected: Sequence[float]) -> float:
    if len(found) != len(expected):
        return float("inf")
    apart = [abs(mine - theirs) / abs(theirs) for mine, theirs in zip(found, expected, strict=True)]
    return max(apart, key=lambda value: (value != value, value))  # nan above all


class _Losses:
    """The loss of every step, from the growth of the epoch's sums."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._total, self._count = 0.0, 0

    def step(self, member: Member) -> None:
        total = member.meters.read()["loss"] * member.meters.count
        self.values.append((total - self._total) / (member.meters.count - self._count))
        self._total, self._count = total, member.meters.count

    def epoch(self, member: Member, measured: Evaluation) -> None: ...

    def stopped(self, member: Member, error: Exception) -> None: ...
