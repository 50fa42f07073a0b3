"""CUDA graphs. A lane is one CUDA stream with its own graph memory pool."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch

from distill.training.randomness import renewed

WARM_UP = 3  # runs before a capture, which create lazy state and choose kernels

Work = Callable[[], None]


class NotCaptured(RuntimeError):
    """A demanded capture is not possible; the message names the part and the reason."""


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
        declined: called with that sentence where there is no capture; it may raise.
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
        self.has_failed = False  # in a capture

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

    def give_up(self) -> None:
        """Do the work as it is from now on."""
        self._replay, self._given_up = None, True

    def _capture(self) -> None:
        reason = self._obstacle
        if reason is None:
            try:
                with self._lane, self._around:
                    self._replay = self._lane.capture(self._work)
                return
            except RuntimeError as error:  # torch's errors for an operation that cannot be captured
                reason = first_line(error)
            self.has_failed = True
            self._recover()
        self.give_up()
        self._declined(f"{self._name} is not captured: {reason}")


def first_line(error: RuntimeError) -> str:
    """What went wrong, without the lines of advice that torch adds."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class CudaLane:
    """`Lane` by `torch.cuda.graph`.

    What is captured takes its memory from the lane's pool. Graphs of one lane share it, since they never run at the
    same time. A later one may lie where an earlier one has its intermediate results, and overwrites those: what a
    graph leaves to others it must write into memory from outside the pool. Other lanes have other pools, since their
    replays overlap. Warm-up runs in the same stream as the capture, so that autograd and the allocator see one stream
    only.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._device = device
        self._inside: Any = None

    def __enter__(self) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self._inside = torch.cuda.stream(self._stream)
        self._inside.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._inside.__exit__(*exc)
        self._inside = None

    def join(self) -> None:
        """Work queued from now on in the current stream waits for this lane."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def capture(self, work: Work) -> Work:
        """The graph's `replay`; call it inside the lane.

        A graph that the garbage collector destroys while another is captured makes that one invalid, so it does not
        collect meanwhile. An error is raised anew, as text: the original would keep alive what the broken work had
        made, and with it autograd's nodes, which belong to this lane's stream.
        """
        graph, reason = self.new_graph(), None
        with uncollected():
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    work()
            except RuntimeError as error:
                # a failed capture also fails to end: the first error is the cause
                reason = first_line(error.__context__ if isinstance(error.__context__, RuntimeError) else error)
        if reason is not None:
            self._leave_behind()
            raise RuntimeError(reason)
        return graph.replay

    def new_graph(self) -> torch.cuda.CUDAGraph:
        """What work is captured in."""
        return torch.cuda.CUDAGraph()

    def _leave_behind(self) -> None:
        """The pool and the state of the default generator, in which the broken capture may still be going on.

        The allocators of device and host refuse another capture in such a pool, and such a generator draws no numbers.
        """
        leave = getattr(torch._C, "_cuda_endAllocateToPool", None)
        if leave is not None:
            with suppress(RuntimeError):  # torch may have done it already
                leave(self._stream.device_index, self._pool)
        self._pool = torch.cuda.graph_pool_handle()
        default = torch.cuda.default_generators[self._stream.device_index]
        default.graphsafe_set_state(renewed(default, self._device))


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected inside the block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
