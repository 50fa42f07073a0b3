"""Measuring costs: clocks, variants in rounds of alternating order, a training that pauses between windows."""

import resource
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType

import torch

from distill.training import Engine, Evaluation, Member, fit

Clock = Callable[[Callable[[], object]], float]
NOISY = 1.3  # largest over smallest ratio of the rounds


def clock_of(device: torch.device) -> Clock:
    """The seconds that a call costs on `device`."""
    return on_gpu if device.type == "cuda" else on_cpu


def on_cpu(run: Callable[[], object]) -> float:
    """CPU seconds, user and system, which other processes hardly change (unlike wall time)."""
    start = _spent()
    run()
    return _spent() - start


def on_gpu(run: Callable[[], object]) -> float:
    """Seconds between two events on the device; the second waits for every stream, not for the current one alone."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    run()
    torch.cuda.synchronize()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def timer_name(device: torch.device) -> str:
    """The name of the clock that `clock_of` returns."""
    return "CUDA events" if device.type == "cuda" else "process CPU time, children included"


def _spent() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


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
        """Whether other work on this machine probably disturbed the measurement."""
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


@dataclass(frozen=True)
class Figure:
    """`ours` and `peer` are what one `unit` cost, round by round, in `quantity` (seconds or launches).

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


class _Left(Exception):
    """The training was left before its end."""


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

    def whole_epoch(self) -> None:
        """Train a whole epoch, its evaluation included."""
        self.go_on()
        self.go_on()

    def step(self, member: Member) -> None:
        """Called by `fit` after every step of a member."""
        if member is self._members[-1] and member.step == member.stream.steps:
            self._pause()

    def epoch(self, member: Member, measured: Evaluation) -> None:
        """Called by `fit` after every epoch of a member."""
        if member is self._members[-1]:
            self._pause()

    def stopped(self, member: Member, error: Exception) -> None:
        """Called by `fit` for a member that ends early: it would make the others look fast."""
        raise error

    def _train(self) -> None:
        torch.set_num_threads(self._threads)  # a new thread would count its own
        self._may_go.acquire()
        try:
            if not self._left:
                with self._around:
                    fit(self._members, watch=self, engine=self._engine)
        except _Left:
            pass
        except BaseException as error:  # raised again in `go_on`
            self._error = error
        finally:
            self._ended = True
            self._waits.release()

    def _pause(self) -> None:
        self._waits.release()
        self._may_go.acquire()
        if self._left:
            raise _Left
