"""What a search may try: the values of `sweep.search.space`, and the jobs whose values they change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEYS = ("low", "high", "log")


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`, evenly, or with `log` evenly in their logarithm; whole ones where both ends are."""

    key: str
    low: float
    high: float
    log: bool

    @property
    def whole(self) -> bool:
        """Whether the key takes whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before the search starts."""
        return (self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    ends: tuple[Any, ...]


@dataclass(frozen=True)
class Search:
    """`trials` proposals for each of `bases` (the overrides of a method, hold-out included) within `space`."""

    trials: int
    seed: int
    space: tuple[Interval | Choice, ...]
    bases: tuple[tuple[str, ...], ...]


def override(key: str, value: Any) -> str:
    """One value as Hydra takes it; numbers keep four digits, which is finer than any deviation between seeds."""
    return f"++{key}={value:.4g}" if isinstance(value, float) else f"++{key}={value}"


def read_space(space: Mapping[str, Any]) -> tuple[Interval | Choice, ...]:
    """The dimensions of a space: `{low, high, log}` or a list of values by key. ValueError with all that is wrong."""
    faults: list[str] = []
    found = [_dimension(key, node, faults) for key, node in space.items()]
    if not found:
        faults.append(
            "sweep.search.space is empty: name at least one key, e.g. loss.temperature: {low: 1.0, high: 8.0}"
        )
    if faults:
        raise ValueError("\n".join(faults))
    return tuple(each for each in found if each is not None)


def corners(base: Sequence[str], space: Sequence[Interval | Choice]) -> list[list[str]]:
    """The overrides of jobs that together show every checked value of every dimension."""
    longest = max(len(dimension.ends) for dimension in space)
    return [
        [*base, *(override(each.key, each.ends[min(step, len(each.ends) - 1)]) for each in space)]
        for step in range(longest)
    ]


def _dimension(key: str, node: Any, faults: list[str]) -> Interval | Choice | None:
    where = f"sweep.search.space.{key}"
    if isinstance(node, list | tuple):
        if node:
            return Choice(key, tuple(node))
        faults.append(f"{where} lists no value: add some, or leave the key out")
        return None
    if not isinstance(node, Mapping) or not {"low", "high"} <= set(node) <= set(KEYS):
        faults.append(f"{where} must be {{low: 1.0, high: 8.0}}, with log: true if wanted, or a list, got {node!r}")
        return None
    low, high, log = node["low"], node["high"], bool(node.get("log", False))
    if not (isinstance(low, int | float) and isinstance(high, int | float) and low < high and (low > 0 or not log)):
        rule = "numbers with 0 < low < high" if log else "numbers with low < high"
        faults.append(f"{where} must have {rule}, got low {low!r} and high {high!r}: change them")
        return None
    return Interval(key, low, high, log)
