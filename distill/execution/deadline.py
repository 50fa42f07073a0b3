"""The time a command may take: runs are asked to stop while what they have yet to save still fits in."""

import math
import time
from collections import deque
from collections.abc import Callable

from distill.training import Evaluation, Member, Watch

STATE = 3 * 4  # bytes of a parameter in a checkpoint: its value and an optimizer's moments
SAVED_PER_SECOND = 50e6  # bytes, of a slow disk
SAVING = 0.2  # seconds that every checkpoint takes besides
RECENT = 5  # steps of all members whose time is looked at
ENDING = 1.0  # seconds to say so and to leave


class Budget:
    """Watches runs in training, passing everything on; asked after every step, it says when to stop.

    A stop is due when the next step, the evaluation that follows it and the checkpoints of all members would no
    longer fit. `struck` says that it was this that stopped a run, not a signal.
    """

    def __init__(
        self,
        seconds: float | None,
        watch: Watch,
        *,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch, self._clock = watch, clock
        self._end = math.inf if seconds is None else (clock() if begun is None else begun) + seconds
        self.struck = False
        self.rest()

    @property
    def left(self) -> float:
        """Seconds until the end; infinite without a budget."""
        return self._end - self._clock()

    def rest(self) -> None:
        """Forget the members: others come."""
        self._saving: dict[str, float] = {}
        self._asked_at: float | None = None
        self._rounds: deque[float] = deque(maxlen=RECENT)
        self._evaluation: float | None = None
        self._epoch_ends = self._evaluated = False

    def __call__(self) -> bool:
        """Whether members should save and stop now."""
        now = self._clock()
        if self._asked_at is not None and not self._evaluated:
            self._rounds.append(now - self._asked_at)
        self._asked_at, self._evaluated = now, False
        evaluation = self._evaluation if self._epoch_ends else None
        self.struck = now + self._round() + (evaluation or 0.0) + sum(self._saving.values()) + ENDING > self._end
        return self.struck

    def _round(self) -> float:
        """Seconds from one question to the next; the first may follow upon something else."""
        return max(self._rounds, default=0.0)

    def step(self, member: Member) -> None:
        """A member has done a step."""
        if member.name not in self._saving:
            self._saving[member.name] = _seconds_to_save(member)
        self._epoch_ends = member.step >= member.stream.steps
        if self._epoch_ends and self._evaluation is None:
            # not seen yet: an evaluated image takes less than a trained one
            dataset = member.stream.dataset
            share = len(dataset.evaluation_labels) / len(dataset.train_labels)
            self._evaluation = self._round() * member.stream.steps * share
        self._watch.step(member)

    def epoch(self, member: Member, measured: Evaluation) -> None:
        """A member has been evaluated."""
        if self._asked_at is not None:  # from the last step of all on
            self._evaluation = self._clock() - self._asked_at
        self._evaluated = True
        self._watch.epoch(member, measured)

    def stopped(self, member: Member, error: Exception) -> None:
        """A member has failed."""
        self._watch.stopped(member, error)


def _seconds_to_save(member: Member) -> float:
    modules = (member.student, member.objective)
    count = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return SAVING + STATE * count / SAVED_PER_SECOND
