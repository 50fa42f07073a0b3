"""How training stops before its end: a failure, a signal, or a deadline."""

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from distill.runs.escapes import escaped
from distill.training import Evaluation, Member, Watch

CHECKPOINT_BYTES = 3 * 4  # of one parameter: its value and two moments of an optimizer
BYTES_PER_SECOND = 50e6  # written by a slow disk
CHECKPOINT_SECONDS = 0.2  # fixed for each checkpoint, added to the writing time
RECENT_STEPS = 5  # the slowest of these predicts the next
GRACE = 30.0  # seconds to save after the command has died
WATCH = "end with the command"  # the name of a thread
EXIT_SECONDS = 1.0  # to print the last lines and to leave


class RunFailed(RuntimeError):
    """The run has failed, now or in an earlier command; the text is one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(escaped(sentence))


class EndedEarly(Exception):
    """A callback ended a run before its last epoch; the run stays unfinished."""


class Interrupted(RuntimeError):
    """Training stopped on request; the state of every run is saved."""


def _never() -> bool:
    return False


_condition: ContextVar[Callable[[], bool]] = ContextVar("stop condition", default=_never)


@contextmanager
def stop_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Runs trained inside the block stop, as after a signal, once `condition()` is true; it is called every step."""
    before = _condition.set(condition)
    try:
        yield
    finally:
        _condition.reset(before)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that is true after the first SIGINT or SIGTERM, or when the condition of `stop_when` holds.

    The first signal lets the state be saved; the second has its ordinary effect. A signal that is ignored (SIGINT of
    a background job in a script) stays ignored.
    """
    received, condition = threading.Event(), _condition.get()

    def stop_requested() -> bool:
        return received.is_set() or condition()

    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def handle(number: int, frame: FrameType | None) -> None:
        received.set()
        signal.signal(number, before[signal.Signals(number)])

    handled = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int) -> None:
    """Ends this process, like a SIGTERM, once the process that started it is gone; for workers that a command starts.

    The state of a run in training is saved first, which has `GRACE` seconds. Does nothing where `parent` is not the
    process that started this one: a scheduler started it then, and ends it.
    """
    if os.getppid() != parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    if not any(thread.name == WATCH for thread in threading.enumerate()):  # a worker does several jobs
        threading.Thread(target=watch, name=WATCH, daemon=True).start()


class Deadline:
    """Stops training while there is still time to save; a `Watch` that passes every event on.

    Called after every step, it is true when the next step, the evaluation that may follow it and the checkpoints of
    all members would no longer fit into the remaining time. `reached` distinguishes it from a signal.

    Args:
        seconds: the time limit; None for no limit.
        watch: receives every event.
        begun: the time on `clock` from which `seconds` count; default now.
        clock: seconds that only increase.
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
        self.reached = False
        self.new_cohort()

    @property
    def left(self) -> float:
        """Seconds until the end; infinite without a limit."""
        return self._end - self._clock()

    def new_cohort(self) -> None:
        """Forget the times of the last cohort."""
        self._saving: dict[str, float] = {}
        self._last_call: float | None = None
        self._steps: deque[float] = deque(maxlen=RECENT_STEPS)
        self._evaluation: float | None = None
        self._epoch_ends = self._evaluated = False

    def __call__(self) -> bool:
        """Whether members should save and stop now."""
        now = self._clock()
        if self._last_call is not None and not self._evaluated:
            self._steps.append(now - self._last_call)
        self._last_call, self._evaluated = now, False
        evaluation = (self._evaluation or 0.0) if self._epoch_ends else 0.0
        needed = self._step() + evaluation + sum(self._saving.values()) + EXIT_SECONDS
        self.reached = now + needed > self._end
        return self.reached

    def _step(self) -> float:
        """Seconds that the next step of all members may take."""
        return max(self._steps, default=0.0)

    def step(self, member: Member) -> None:
        """Note the cost of the member's checkpoint and whether its epoch ends."""
        if member.name not in self._saving:
            self._saving[member.name] = _checkpoint_seconds(member)
        self._epoch_ends = member.step >= member.stream.steps
        if self._epoch_ends and self._evaluation is None:
            # none measured yet: an image takes less time to evaluate than to train
            share = member.evaluation.count / member.stream.count
            self._evaluation = self._step() * member.stream.steps * share
        self._watch.step(member)

    def epoch(self, member: Member, measured: Evaluation) -> None:
        """Note how long evaluation takes, from the last step of all members on."""
        if self._last_call is not None:
            self._evaluation = self._clock() - self._last_call
        self._evaluated = True
        self._watch.epoch(member, measured)

    def stopped(self, member: Member, error: Exception) -> None:
        """Pass a failure on."""
        self._watch.stopped(member, error)


def _checkpoint_seconds(member: Member) -> float:
    modules = (member.student, member.objective)
    count = sum(parameter.numel() for module in modules for parameter in module.parameters())
    return CHECKPOINT_SECONDS + CHECKPOINT_BYTES * count / BYTES_PER_SECOND
