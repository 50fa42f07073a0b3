"""What a CUDA lane does around a capture, on a CUDA that is only claimed."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from distill.training import CudaLane
from distill.training.graphs import WARM_UP, Recording

DEVICE = torch.device("cuda", 0)


class Graph:
    def replay(self) -> None: ...


class Generator:
    """Of a device; `capturing` is what a capture that was broken off leaves in it."""

    def __init__(self, device: object = DEVICE) -> None:
        self.numbers, self.capturing = torch.zeros(1), False

    def get_state(self) -> torch.Tensor:
        return self.numbers.clone()

    def set_state(self, state: torch.Tensor) -> None:
        self.numbers = state

    def graphsafe_set_state(self, other: "Generator") -> None:
        self.numbers, self.capturing = other.numbers, other.capturing


class Capture:
    """`torch.cuda.graph`: what it saw, and, as in torch, no second capture in the pool of one that failed."""

    def __init__(self) -> None:
        self.collecting: list[bool] = []
        self.recording: list[object] = []
        self.default = Generator()

    def __call__(self, graph: Graph, *, pool: object, stream: object) -> "Capture":
        self.pool = pool
        return self

    def __enter__(self) -> None:
        if self.pool in self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        if self.default.capturing:
            raise RuntimeError("the generator is capturing")
        self.collecting.append(gc.isenabled())
        self.recording.append(self.pool)
        self.default.capturing = True

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture\nadvice")
        self.recording.remove(self.pool)
        self.default.capturing = False


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Capture:
    """What stands in for CUDA."""
    stub, pools = Capture(), iter(range(9))
    stream = SimpleNamespace(device_index=0, wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, next(pools)))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", stub)
    monkeypatch.setattr(torch.cuda, "default_generators", (stub.default,))
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda device, pool: None, raising=False)
    return stub


def recording(work, lane: CudaLane, declined: list[str]) -> Recording:
    return Recording(work, lane, name="the step", declined=declined.append)


def test_no_garbage_is_collected_during_a_capture(capture: Capture) -> None:
    seen: list[bool] = []
    step = recording(lambda: seen.append(gc.isenabled()), CudaLane(DEVICE), [])
    for _ in range(WARM_UP + 1):
        step()
    assert step.is_captured
    assert (seen, capture.collecting) == ([True] * WARM_UP + [False], [False])
    assert gc.isenabled()


def test_who_collects_by_hand_goes_on_doing_so(capture: Capture) -> None:
    lane = CudaLane(DEVICE)
    gc.disable()
    try:
        with lane:
            lane.capture(lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_capture_after_one_that_failed_has_a_pool_and_a_generator_that_are_sound(capture: Capture) -> None:
    def waits() -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nadvice")

    lane = CudaLane(DEVICE)
    capture.default.numbers = torch.ones(1)
    with lane, pytest.raises(RuntimeError, match=r"^operation not permitted when stream is capturing$"):
        lane.capture(waits)
    assert gc.isenabled()
    assert capture.default.numbers.tolist() == [1.0]
    with lane:
        replay = lane.capture(lambda: None)
    assert replay is not None
    assert len(capture.recording) == 1  # the broken one's


def test_an_error_without_another_behind_it_is_told(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(self: Capture) -> None:
        raise RuntimeError("out of streams")

    monkeypatch.setattr(Capture, "__enter__", begin)
    with pytest.raises(RuntimeError, match=r"^out of streams$"):
        CudaLane(DEVICE).capture(lambda: None)


def test_nothing_of_the_broken_work_is_alive_when_it_goes_on_without_a_capture(capture: Capture) -> None:
    """Else autograd's nodes, which belong to the lane's stream, would be used on another."""

    class Made:
        pass

    made: list[weakref.ref] = []
    alive: list[int] = []

    def work() -> None:
        alive.append(sum(each() is not None for each in made))
        local = Made()
        made.append(weakref.ref(local))
        if len(made) == WARM_UP + 1:
            raise RuntimeError("operation not permitted when stream is capturing")

    declined: list[str] = []
    step = recording(work, CudaLane(DEVICE), declined)
    gc.disable()
    try:
        for _ in range(WARM_UP + 2):
            step()
    finally:
        gc.enable()
    assert declined == ["the step is not captured: operation not permitted when stream is capturing"]
    assert alive == [0] * (WARM_UP + 3)
