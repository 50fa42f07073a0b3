"""How many runs a cohort takes when nobody says."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from distill.config.footprint import Footprint
from distill.execution import cohort_size
from distill.execution.cohort_size import MOST, fitting_size
from distill.execution.free_memory import free_bytes, host_bytes

MB, GB = 10**6, 10**9


class Case:
    """Runs of given footprints, and so much free memory."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, patch
        self.notes: list[str] = []
        self.asked: list[str] = []

    def plan(self, name: str, *, kept: int = 10 * MB, passing: int = 100 * MB, weight: float = 0.9) -> SimpleNamespace:
        return SimpleNamespace(
            directory=self._folder / f"{name}-{weight}",
            device=self.device,
            config={"student": name, "loss": {"weight": weight}, "recipe": {"batch_size": 64}},
            dataset=SimpleNamespace(image_size=8, num_classes=3, train_labels=[0, 1, 2]),
            precision="fp32",
            teacher=None,
            takes=Footprint(kept, passing),
        )

    def size(self, *plans, free: int | None, shared: int = 0) -> int:
        def footprint(plan, *, evaluation_batch: int) -> Footprint:
            self.asked.append(plan.config["student"])
            if isinstance(plan.takes, Exception):
                raise plan.takes
            return plan.takes

        self._patch.setattr(cohort_size, "footprint", footprint)
        self._patch.setattr(cohort_size, "shared_bytes", lambda plans: shared)
        self._patch.setattr(cohort_size, "free_bytes", lambda device: free)
        self.notes.clear()
        return fitting_size(plans, note=self.notes.append)

    device = torch.device("cpu")


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(tmp_path, monkeypatch)


def test_it_is_what_fits_into_four_fifths_of_the_free_memory(case: Case) -> None:
    """Of runs on a CPU one computes at a time, so that activations are there once."""
    assert case.size(case.plan("a"), free=200 * MB) == 6  # (160 - 100) / 10
    assert case.notes == ["cohorts of up to 6: about 10.0 MB a run and 100.0 MB in common, 200.0 MB free"]
    assert case.size(case.plan("a"), free=200 * MB, shared=45 * MB) == 1
    assert case.size(case.plan("a"), free=10 * GB) == MOST == 16
    assert "cohorts of up to 16: " in case.notes[0]


def test_on_a_gpu_each_run_has_activations_of_its_own(case: Case) -> None:
    case.device = torch.device("cuda")
    assert case.size(case.plan("a"), free=1100 * MB) == 8  # 880 / 110
    assert case.size(case.plan("a"), free=1100 * MB, shared=120 * MB) == 6


def test_the_dearest_run_decides(case: Case) -> None:
    plans = case.plan("a"), case.plan("b", kept=30 * MB), case.plan("c", passing=10 * MB)
    assert case.size(*plans, free=250 * MB) == 3  # (200 - 100) / 30
    assert case.asked == ["a", "b", "c"]


def test_a_grid_of_weights_is_estimated_once(case: Case) -> None:
    case.size(*(case.plan("a", weight=weight) for weight in (0.1, 0.5, 0.9)), case.plan("b"), free=GB)
    assert sorted(case.asked) == ["a", "b"]


def test_what_is_too_large_runs_alone_with_a_warning(case: Case) -> None:
    assert case.size(case.plan("a"), case.plan("b"), free=100 * MB) == 1
    (note,) = case.notes
    assert note.startswith("warning: a run takes about 110.0 MB, more than 80 % of the 100.0 MB that are free: ")
    assert "set recipe.batch_size lower" in note


def test_finished_runs_take_nothing(case: Case) -> None:
    large, small = case.plan("large", kept=GB), case.plan("small")
    large.directory.mkdir()
    (large.directory / "result.json").write_text("{}")
    assert case.size(large, small, free=GB) == 16
    assert case.size(large, free=1) == 16
    assert case.notes == []


def test_where_something_is_not_known_it_says_so(case: Case) -> None:
    plan = case.plan("a")
    assert case.size(plan, free=None) == 16
    assert "how much is free is not known" in case.notes[0]
    plan.takes = NotImplementedError("no kernel for meta tensors")
    assert case.size(plan, free=GB) == 16
    assert case.notes == [
        "cohorts of up to 16: the memory of a run is not known (NotImplementedError: no kernel for meta tensors)"
    ]


class Kernel:
    """/proc and /sys/fs/cgroup as a kernel would show them."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"

    def write(self, path: str, text: str) -> None:
        file = self.proc.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def free(self) -> int | None:
        return host_bytes(proc=self.proc, groups=self.groups)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    made = Kernel(tmp_path)
    made.write("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    8000 kB\n")
    return made


def test_without_limits_it_is_what_the_system_says(kernel: Kernel) -> None:
    assert kernel.free == 8000 * 1024
    kernel.write("proc/self/cgroup", "0::/user.slice\n")
    kernel.write("cgroup/user.slice/memory.max", "max\n")
    kernel.write("cgroup/user.slice/memory.current", "5\n")
    assert kernel.free == 8000 * 1024


@pytest.mark.parametrize("limited", ["", "a/", "a/b/"])
def test_a_limit_of_version_2_holds_for_all_groups_below(kernel: Kernel, limited: str) -> None:
    kernel.write("proc/self/cgroup", "0::/a/b\n")
    kernel.write(f"cgroup/{limited}memory.max", "1000000\n")
    kernel.write(f"cgroup/{limited}memory.current", "900000\n")
    assert kernel.free == 100000
    kernel.write(f"cgroup/{limited}memory.stat", "anon 1\ninactive_file 50000\nactive_file 7\n")
    assert kernel.free == 150000  # files that were read may be forgotten


def test_limits_of_version_1(kernel: Kernel) -> None:
    kernel.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n")
    kernel.write("cgroup/memory/memory.limit_in_bytes", "2000000")  # seen from inside the container
    kernel.write("cgroup/memory/memory.usage_in_bytes", "1500000")
    kernel.write("cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100000\n")
    assert kernel.free == 600000
    kernel.write("cgroup/memory/memory.usage_in_bytes", "2100001")
    assert kernel.free == 0


def test_where_nothing_says_it_is_not_known(tmp_path: Path) -> None:
    assert host_bytes(proc=tmp_path, groups=tmp_path) is None
    assert free_bytes(torch.device("meta")) is None
    (tmp_path / "meminfo").write_text("MemAvailable: many kB\n")
    assert host_bytes(proc=tmp_path, groups=tmp_path) is None


def test_this_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 0
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert free_bytes(torch.device("cuda")) == 1200
