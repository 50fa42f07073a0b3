"""Variants of one piece of work, measured side by side in rounds of alternating order."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distill.bench.clock import Clock

NOISY = 1.3  # largest over smallest ratio of the rounds


def nothing() -> None:
    """For a variant that needs no preparation."""


@dataclass(frozen=True)
class Variant:
    """One way to do a piece of work: `run` does `units` of it, `prepare` before it is not timed."""

    name: str
    units: float
    run: Callable[[], object]
    prepare: Callable[[], object] = nothing


@dataclass(frozen=True)
class Ratio:
    """How many times ours the peer's cost was, round by round: what slows both in a round cancels."""

    rounds: tuple[float, ...]

    @classmethod
    def of(cls, peer: Sequence[float], ours: Sequence[float]) -> "Ratio":
        """Of what the same rounds cost."""
        return cls(tuple(theirs / mine for theirs, mine in zip(peer, ours, strict=True)))

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The largest ratio over the smallest."""
        return max(self.rounds) / min(self.rounds)

    @property
    def noisy(self) -> bool:
        """Whether something else was at work on this machine."""
        return self.spread > NOISY


def measure(variants: Sequence[Variant], *, rounds: int, warm_up: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds for one unit, of every variant in every round.

    Every second round repeats the one before it backwards, and each such pair begins one variant further, so that all
    come first, and all before each other, equally often. `warm_up` rounds go before and are not counted.
    """
    seconds: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for number in range(warm_up + rounds):
        first = number // 2 % len(variants)
        order = [*variants[first:], *variants[:first]]
        for variant in order[:: -1 if number % 2 else 1]:
            variant.prepare()
            spent = clock(variant.run)
            if number >= warm_up:
                seconds[variant.name].append(spent / variant.units)
    return seconds
