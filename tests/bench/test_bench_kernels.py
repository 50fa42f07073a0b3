"""The row of what is launched: rehearsed on a CPU with lanes of tape, counted from the names of a profile."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))

from tape_lane import TapeLane

from distill.bench.lab import Lab
from distill.bench.rounds import measure
from distill.bench.rows import ROWS, kernels
from distill.bench.rows.group import figures_of


def test_every_engine_takes_its_steps(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "why_not_compiled", lambda device: "not here")
    monkeypatch.setattr(kernels, "COHORTS", (2,))
    lanes: list[TapeLane] = []
    log: list[tuple[str, TapeLane]] = []

    def new_lane() -> TapeLane:
        lanes.append(TapeLane(log))
        return lanes[-1]

    with ExitStack() as stack:
        group = kernels.engines(lab, stack, new_lane=new_lane)
        costs = measure([group.peer, *(each.variant for each in group.ours)], rounds=5, warm_up=0, clock=lab.clock)
        assert len(lanes) == 2 + 2 + 1 + 1 + 3  # a cohort on one stream has one
    assert all(("replay", lane) in log for lane in lanes)
    found = figures_of(group, costs)
    assert [figure.key.removeprefix("kernels.") for figure in found] == [
        "eager",
        "captured",
        "student.eager",
        "student.captured",
        "teacher.eager",
        "teacher.captured",
        "cohort2.stream",
        "cohort2.each",
    ]
    assert all(min(figure.ours) > 0 and figure.gates for figure in found)


def test_without_a_gpu_nothing_is_launched(lab: Lab) -> None:
    told: list[str] = []
    assert ROWS["kernels"](lab, told.append) == []
    assert told == ["row kernels is left out: it counts what is launched on a GPU"]


@pytest.mark.parametrize(
    ("name", "launch"),
    [
        ("cudaLaunchKernel", True),
        ("cudaLaunchKernelExC", True),
        ("cuLaunchKernelEx", True),
        ("cudaGraphLaunch", True),
        ("cudaMemcpyAsync", True),
        ("cudaMemsetAsync", True),
        ("cudaStreamWaitEvent", False),
        ("cudaDeviceSynchronize", False),
        ("aten::copy_", False),
    ],
)
def test_what_starts_work_on_the_device(name: str, launch: bool) -> None:
    assert kernels.is_launch(name) is launch
