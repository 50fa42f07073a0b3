"""A training that stands still between windows, so that others can be measured meanwhile."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import torch

from distill.training import Engine, Evaluation, Member, fit


class _Left(Exception):
    """Nobody goes on with this training."""


class PausedTraining:
    """`fit` itself, in a thread of its own that waits at two places: after an epoch's last step, and after its end.

    What is prepared once in a training (compiled, captured) is so prepared once here, and what is timed is `fit`.
    Only one thread is at work at any time.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        engine: Engine | None = None,
        around: AbstractContextManager[object] | None = None,
    ) -> None:
        """`engine` as for `fit`; `around` is entered around the whole training, in its thread."""
        self._members, self._engine, self._around = members, engine, around or nullcontext()
        self._may_go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._left = self._ended = False
        self._error: BaseException | None = None
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._train, daemon=True)

    def __enter__(self) -> "PausedTraining":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._may_go.release()
        self._thread.join()

    def go_on(self) -> None:
        """Train to the next of the two places. Raises what ended the training, a member's own error included."""
        if not self._ended:
            self._may_go.release()
            self._waits.acquire()
        if self._error is not None:
            raise self._error
        if self._ended:
            raise RuntimeError("the training is over: give it more epochs")

    def epoch(self) -> None:
        """Train a whole epoch, its evaluation included."""
        self.go_on()
        self.go_on()

    def step(self, member: Member) -> None:
        """Told by `fit` after every step of a member."""
        if member is self._members[-1] and member.step == member.stream.steps:
            self._pause()

    def epoch_done(self) -> None:
        """Wait after an epoch."""
        self._pause()

    def stopped(self, member: Member, error: Exception) -> None:
        """A member that ends early would make the others look fast."""
        raise error

    def _train(self) -> None:
        torch.set_num_threads(self._threads)  # a new thread would count its own
        self._may_go.acquire()
        try:
            if not self._left:
                with self._around:
                    fit(self._members, watch=_Watch(self), engine=self._engine)
        except _Left:
            pass
        except BaseException as error:  # raised where somebody waits for it
            self._error = error
        finally:
            self._ended = True
            self._waits.release()

    def _pause(self) -> None:
        self._waits.release()
        self._may_go.acquire()
        if self._left:
            raise _Left


class _Watch:
    """`fit`'s view of a paused training."""

    def __init__(self, training: PausedTraining) -> None:
        self._training = training

    def step(self, member: Member) -> None:
        self._training.step(member)

    def epoch(self, member: Member, measured: Evaluation) -> None:
        if member is self._training._members[-1]:
            self._training.epoch_done()

    def stopped(self, member: Member, error: Exception) -> None:
        self._training.stopped(member, error)
