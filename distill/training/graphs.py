"""CUDA graphs: a lane is a stream of its own, with a memory pool for the graphs captured in it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from distill.training.recording import Work


class CudaLane:
    """`Lane` by `torch.cuda.graph`.

    What is captured takes its memory from the lane's pool. Graphs of one lane share it, since they never run at the
    same time and keep nothing there from one replay to the next but what somebody still holds; other lanes have other
    pools, since their replays overlap. Warm-up runs in the same stream as the capture, so that autograd and the
    allocator know one stream only.
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
        """The graph's `replay`; call it inside the lane."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except RuntimeError as error:
            self._leave_pool()
            # that a broken capture cannot be ended hides what broke it
            raise (error.__context__ if isinstance(error.__context__, RuntimeError) else error) from None
        return graph.replay

    def _leave_pool(self) -> None:
        """Some versions of torch leave the allocator in the pool of a capture that failed; no other can begin then."""
        leave = getattr(torch._C, "_cuda_endAllocateToPool", None)
        if leave is not None:
            with suppress(RuntimeError):  # where torch has seen to it itself
                leave(self._stream.device_index, self._pool)
