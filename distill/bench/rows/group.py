"""Figures measured together: one variant they are all compared with, and ours."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from distill.bench.figure import Figure
from distill.bench.lab import Lab
from distill.bench.rounds import Variant


@dataclass(frozen=True)
class Ours:
    """A variant of ours, and the figure it gives: its key, what it is, the gates that it stands behind, and the seconds
    that were spent before its first window, where these are worth telling."""

    key: str
    label: str
    variant: Variant
    gates: tuple[str, ...]
    preparation: float | None = None


@dataclass(frozen=True)
class Group:
    """Variants of one piece of work, counted in `unit`."""

    unit: str
    peer: Variant
    ours: Sequence[Ours]


Build = Callable[[Lab, ExitStack], Group]


def figures_of(group: Group, costs: Mapping[str, Sequence[float]]) -> list[Figure]:
    """The figures of ours, given what one unit of every variant cost in every round."""
    peer = tuple(costs[group.peer.name])
    return [
        Figure(
            each.key,
            each.label,
            group.unit,
            each.gates,
            tuple(costs[each.variant.name]),
            peer,
            preparation=each.preparation,
        )
        for each in group.ours
    ]
