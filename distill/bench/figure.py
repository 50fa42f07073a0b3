"""A figure of the bench: what it is, what it cost us and the peer, and what it stands behind."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from distill.bench.lab import Lab
from distill.bench.rounds import Ratio

Note = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """`ours` and `peer` are what one `unit` cost, round by round, in `quantity` (seconds, bytes or launches).

    Without a peer there is no ratio, and what is of interest is the cost itself. `preparation` are seconds spent before
    the first window (compiling, capturing), which are in no figure.
    """

    key: str
    label: str
    unit: str
    gates: tuple[str, ...]
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    quantity: str = "seconds"
    preparation: float | None = None

    @property
    def ratio(self) -> Ratio | None:
        """How many times ours the peer's cost was."""
        return Ratio.of(self.peer, self.ours) if self.peer else None

    @property
    def cost(self) -> float:
        """The median of ours."""
        return statistics.median(self.ours)

    @property
    def peer_cost(self) -> float | None:
        """The median of the peer's."""
        return statistics.median(self.peer) if self.peer else None


Row = Callable[[Lab, Note], list[Figure]]
