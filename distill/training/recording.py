"""A piece of work that is run as it is at first, then captured once and replayed from there on."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

WARM_UP = 3  # runs before a capture: lazy state is there, and kernels have been chosen

Work = Callable[[], None]


class NotCaptured(RuntimeError):
    """A capture that was demanded is not possible; the text says of what, and why."""


class Lane(Protocol):
    """A queue of work on the device, and the memory of what is captured in it.

    `with lane:` everything queued so far comes first, and the block's work goes into this queue; `join` makes what is
    queued afterwards wait for it. `capture` runs the Python of a piece of work without doing the work, and returns a
    function that does it, always at the same addresses; RuntimeError where that is not possible.
    """

    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...
    def join(self) -> None: ...
    def capture(self, work: Work) -> Work: ...


class Recording:
    """`work`, run as it is `WARM_UP` times, then captured and replayed.

    The first runs are real: nothing is done for the sake of warming up, and nothing twice. A capture that fails leaves
    every tensor as it was, since nothing is executed while capturing; the work then goes on as it is, outside the lane.

    Args:
        work: the same kernels on the same tensors at each call, and no other effect on the host than caches.
        lane: where it runs; work of one lane is never done at the same time.
        name: what it is, for the sentence.
        declined: told that sentence where there is no capture; it may raise.
        around: entered around each call, outside of what is captured: the generator state of a member.
        obstacle: a reason against a capture that is known beforehand.
        addresses: where everything lies that `work` keeps from one call to the next, by name. What has moved in the
            last run before a capture would be read at its old place by every replay, so there is none.
        recover: called after a capture that failed.
    """

    def __init__(
        self,
        work: Work,
        lane: Lane,
        *,
        name: str,
        declined: Callable[[str], None],
        around: AbstractContextManager[object] | None = None,
        obstacle: str | None = None,
        addresses: Callable[[], Mapping[str, int]] = dict,
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        self._work, self._lane, self._name, self._declined = work, lane, name, declined
        self._around = nullcontext() if around is None else around
        self._obstacle, self._addresses, self._recover = obstacle, addresses, recover
        self._replay: Work | None = None
        self._runs = 0
        self._given_up = False

    @property
    def is_captured(self) -> bool:
        """Whether calls are replays."""
        return self._replay is not None

    def __call__(self) -> None:
        """Do the work; where it is time, capture it first."""
        if self._runs == WARM_UP and not (self.is_captured or self._given_up):
            self._capture()
        if self._given_up:
            with self._around:
                self._work()
            return
        before = self._addresses() if self._runs == WARM_UP - 1 else {}
        with self._lane, self._around:
            (self._replay or self._work)()
        self._runs += 1
        if before:
            moved = [name for name, place in self._addresses().items() if before.get(name, place) != place]
            if moved:
                self._obstacle = f"{moved[0]} is another tensor after every step, it must be written in place"

    def _capture(self) -> None:
        reason = self._obstacle
        if reason is None:
            try:
                with self._lane, self._around:
                    self._replay = self._lane.capture(self._work)
                return
            except RuntimeError as error:  # whatever torch says of a stream that is being captured
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._recover()
        self._given_up = True
        self._declined(f"{self._name} is not captured: {reason}")
