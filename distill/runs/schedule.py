"""When to write a checkpoint: not too often for the clock, and never dearer than a share of the run."""

import contextlib
import time
from collections.abc import Callable, Iterator


class CheckpointSchedule:
    """At most one checkpoint every `interval` seconds, and saving takes at most `share` of the elapsed time.

    The cost of saving is measured; `expected_cost` (seconds) stands in until the first save, e.g. from the
    last session. `interval` >= 0 in seconds, 0 < `share` <= 1. One schedule serves a whole cohort: what is
    measured is the block under `saving`.
    """

    def __init__(
        self,
        interval: float,
        *,
        share: float = 0.02,
        expected_cost: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not interval >= 0:
            raise ValueError(f"interval must be >= 0 seconds, got {interval}: set it to 0 or more")
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}: 0.02 lets checkpoints take 2 % of a run")
        if not expected_cost >= 0:
            raise ValueError(f"expected_cost must be >= 0 seconds, got {expected_cost}: set it to 0 or more")
        self._interval = interval
        self._share = share
        self._clock = clock
        self._start = self._saved_at = clock()
        self._cost = expected_cost
        self._spent = 0.0

    @property
    def cost(self) -> float:
        """Seconds the next save is expected to take: what the last one took."""
        return self._cost

    @property
    def spent(self) -> float:
        """Seconds spent in saving so far."""
        return self._spent

    def due(self) -> bool:
        """Whether a checkpoint may be written now; cheap enough to be asked after every step."""
        now = self._clock()
        affordable = self._spent + self._cost <= self._share * (now - self._start)
        return affordable and now - self._saved_at >= self._interval

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Measures the save written in its block; also for one that is not due (the process is to stop)."""
        begin = self._clock()
        try:
            yield
        finally:
            self._saved_at = self._clock()
            self._cost = self._saved_at - begin
            self._spent += self._cost
