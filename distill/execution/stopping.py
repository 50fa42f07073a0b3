"""How runs end other than by finishing."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType


class RunFailed(RuntimeError):
    """The run has failed, now or before; the text says how."""


class Interrupted(RuntimeError):
    """The user asked to stop; the state is saved."""


def _never() -> bool:
    return False


_condition: ContextVar[Callable[[], bool]] = ContextVar("stop condition", default=_never)


@contextmanager
def stop_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Runs started in the block are asked to stop once `condition` holds, as by a signal; it is asked every step."""
    before = _condition.set(condition)
    try:
        yield
    finally:
        _condition.reset(before)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT or SIGTERM into a request, so that state is saved; the second one acts as ever.

    A signal that is ignored (SIGINT in the background of a script) stays ignored. What `stop_when` set counts too.
    """
    asked, condition = threading.Event(), _condition.get()

    def stop_requested() -> bool:
        return asked.is_set() or condition()

    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield stop_requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
