"""The bench: a figure is shown only if its gates passed, and each gate fails for the fault it is there for."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from photographs import write_folder
from tape_lane import TapeLane

from distill.data import Dataset, image_folder
from distill.data.image_crops import random_crops
from distill.data.image_decode import Resample
from distill.training import Captured, Member, why_not_compiled
from scripts.bench import __main__ as command
from scripts.bench import gates, peer, processes, rows
from scripts.bench import photographs as photograph_rows
from scripts.bench.gates import EXACT, GATES, Gate, check, curve, evaluation, within
from scripts.bench.lab import Lab, Settings
from scripts.bench.measure import Figure
from scripts.bench.photographs import one_core
from scripts.bench.report import Bench, bench, document, gates_of, notes, text

SECRET = 7.654321
Capture = pytest.CaptureFixture[str]


def gate(name: str, *, passed: bool = True) -> Callable[[Lab], Gate]:
    return lambda lab: Gate(name, passed, f"{name} is as it is", {"off": 0.5})


def step(lab: Lab, note: Callable[[str], None]) -> list[Figure]:
    return [
        Figure("step.live", "KD step, live teacher", "step", ("curve",), (1.0, 1.0), (2.0, 3.0)),
        Figure("step.table", "KD step, table", "step", ("evaluation",), (1.0, 1.0), (SECRET, SECRET)),
    ]


def broken(lab: Lab, note: Callable[[str], None]) -> list[Figure]:
    raise OSError("no room")


@pytest.fixture
def found(lab: Lab, settings: Settings) -> Callable[..., Bench]:
    def of(measured: Mapping[str, Any], **passed: bool) -> Bench:
        all_gates = {name: gate(name, passed=passed.get(name, True)) for name in ("curve", "evaluation")}
        return bench(lab.plan, settings, list(measured), note=lambda line: None, rows=measured, gates=all_gates)

    return of


def test_a_sound_bench_shows_its_figures(found: Callable[..., Bench]) -> None:
    result = found({"step": step})
    assert result.sound
    assert [figure.key for figure in result.figures] == ["step.live", "step.table"]
    assert set(result.gates) == {"curve", "evaluation"}
    data = document(result)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["figures"][0]["ratios"] == [2.0, 3.0]
    assert (data["figures"][0]["ratio"], data["figures"][0]["spread"], data["figures"][0]["noisy"]) == (2.5, 1.5, True)
    assert any(note.startswith("! rounds differ") for note in notes(result))
    assert "2.00 to 3.00 !" in text(result)


def test_a_figure_whose_gate_failed_is_nowhere(found: Callable[..., Bench]) -> None:
    result = found({"step": step}, evaluation=False)
    assert not result.sound
    assert [figure.key for figure in result.figures] == ["step.live"]
    assert "7.65" not in text(result)
    assert "2.50" in text(result)
    assert "KD step, table: not shown, since its gate failed (evaluation)" in notes(result)
    assert "gate evaluation FAILED. evaluation is as it is" in notes(result)
    assert document(result)["not_shown"].keys() == {"step.table"}


def test_a_row_that_raises_leaves_the_others(found: Callable[..., Bench]) -> None:
    result = found({"data": broken, "step": step})
    assert not result.sound
    assert len(result.figures) == 2
    assert result.hidden == {"data": "row data could not be measured: OSError: no room"}


def test_in_bf16_a_figure_needs_one_more_gate() -> None:
    figure = Figure("step.live", "it", "step", ("curve",), (1.0,), (1.0,))
    assert gates_of(figure, "fp32") == ("curve",)
    assert gates_of(figure, "bf16") == ("curve", "curve bf16")


def test_the_json_describes_the_machine(found: Callable[..., Bench]) -> None:
    data = document(found({"step": step}))
    machine = data["machine"]
    assert machine["threads"] == 1
    assert machine["flags"].keys() == {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    assert {"commit", "dirty", "versions", "device", "isa", "distill", "timer", "cores"} <= machine.keys()
    for moment in (data["before"], data["after"]):
        assert moment.keys() == {"time", "load", "clock_mhz"}
    assert data["settings"]["sizes"]["rounds"] == 1
    assert "config_dir" not in data["settings"]  # a path of somebody's machine


@pytest.mark.parametrize("name", ["curve", "evaluation"])
def test_the_gates_pass(lab: Lab, name: str) -> None:
    (found,) = check(lab, [name]).values()
    assert found.passed, found.says
    assert found.name == name
    assert found.values


def test_nan_passes_no_gate() -> None:
    assert within("x", {"off": (0.0, 0.0)}, what="it").passed
    assert not within("x", {"off": (1, 0)}, what="it").passed
    assert not within("x", {"off": (float("nan"), 1.0)}, what="it").passed
    assert "inf" in within("x", {"off": (float("inf"), 1.0)}, what="it").says
    assert within("x", {"off": (2e-5, 1e-4), "wrong": (3, 4)}, what="it").says == (
        "it: 2.0e-05 off (limit 1.0e-04), 3 wrong (limit 4)"
    )


def test_a_gate_that_raises_has_failed(lab: Lab) -> None:
    def raises(lab: Lab) -> Gate:
        raise RuntimeError("no such crop")

    found = check(lab, ["curve"], gates={"curve": raises})
    assert not found["curve"].passed
    assert found["curve"].says == "curve could not be tried: RuntimeError: no such crop"


def test_another_loss_or_learning_rate_is_seen_in_the_curve(lab: Lab) -> None:
    """In either precision."""

    def hasty(lab: Lab, data: Dataset, *, dtype: torch.dtype) -> Member:
        member = lab.taught(data, dtype=dtype)
        member._base_rates = [1.01 * rate for rate in member._base_rates]
        return member

    def hot(lab: Lab, data: Dataset, *, dtype: torch.dtype) -> Member:
        return lab.member(
            data, lab.live(precision="fp32", dtype=dtype), precision="fp32", temperature=4.01, dtype=dtype
        )

    found = curve(lab, steps=3)
    assert found.passed, found.says
    exact, timed = found.values.values()
    assert "in 3 steps in float64" in found.says
    assert exact < 1e-12 < timed  # the two differ in precision
    for other in (hasty, hot):
        found = curve(lab, steps=3, member=other)
        assert min(found.values.values()) > EXACT, found.says


def test_an_evaluation_of_other_weights_is_seen(lab: Lab) -> None:
    network = lab.student()
    assert evaluation(lab, network).passed
    with torch.no_grad():
        network.fc.bias[3] += 1e-2
    assert not evaluation(lab, network).passed


def test_compiling_is_left_out_if_there_is_no_compiler(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "why_not_compiled", lambda device: "there is no C++ compiler")
    lines: list[str] = []
    assert rows.ROWS["compile"](lab, lines.append) == []
    assert lines == ["row compile is left out: there is no C++ compiler"]


def test_the_cost_of_a_cohort_is_that_of_one_student(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "COHORTS", (1, 4))
    cohorts = rows.ROWS["cohort"](lab, print)
    assert [figure.key for figure in cohorts] == ["cohort1.live", "cohort4.live", "cohort4.table"]
    one, four = (figure.cost for figure in cohorts[:2])
    assert four < 3 * one


@pytest.mark.parametrize("row", ["epoch", "evaluation"])
def test_nothing_is_captured_while_it_is_measured(lab: Lab, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    log: list[tuple[str, TapeLane]] = []
    monkeypatch.setattr(Lab, "engine", lambda self: Captured(lambda: TapeLane(log), declined=pytest.fail))
    with ExitStack() as stack:
        if row == "epoch":
            windows = [rows.of_epochs("ours", lab, lab.live(), lab.steps(1), stack)]
        else:
            windows = [each.variant for each in rows.evaluation(lab, stack).ours]
        before = sum(what == "capture" for what, _ in log)
        assert before > 0
        for window in windows:
            window.run()
        assert sum(what == "capture" for what, _ in log) == before


@pytest.mark.parametrize("students", [1, 2])  # the row `lanes` has eight
def test_a_step_is_measured_without_a_peer(lab: Lab, monkeypatch: pytest.MonkeyPatch, students: int) -> None:
    """Its nodes are those of gather, teacher and step, and not of an evaluation, which is captured later."""
    log, lines = [], []

    class Counted(TapeLane):
        def __init__(self, device: torch.device, counts: list[int]) -> None:
            super().__init__(log)
            self.counts = counts

        def capture(self, work):
            self.counts.append(8)
            return super().capture(work)

    monkeypatch.setattr(Lab, "engine", lambda self: Captured(lambda: TapeLane(log), declined=pytest.fail))
    monkeypatch.setattr(rows, "CountedLane", Counted)
    found = {figure.key: figure for figure in rows.captured(lab, lines.append, size=students)}
    assert found[f"captured{students}.live.nodes"].ours == (8 * (2 + students) / students,)
    assert found[f"captured{students}.table"].cost > 0
    # on a CPU a table checks its batches on the host
    assert [line.partition(" is ")[0] for line in lines] == ["the teacher's forward of 16 images"]


def test_without_a_gpu_no_launches_are_counted(lab: Lab) -> None:
    lines: list[str] = []
    assert rows.ROWS["kernels"](lab, lines.append) == []
    assert lines == ["row kernels is left out: it counts the launches on a GPU"]


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
def test_names_of_launches(name: str, launch: bool) -> None:
    assert rows.is_launch(name) is launch


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no thread can be bound to a core here")
def test_the_loader_row_has_one_core_for_all_threads() -> None:
    before = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # a thread that is there already
        with one_core():
            assert os.sched_getaffinity(0) == pool.submit(os.sched_getaffinity, 0).result() == {max(before)}
        assert os.sched_getaffinity(0) == pool.submit(os.sched_getaffinity, 0).result() == before


def test_by_default_nothing_follows_the_profiler() -> None:
    assert command.DEFAULTS["rows"].split(",")[-1] == "kernels"


SIZES = ("rounds=1", "steps=1", "images=100")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rounds=0"], "rounds must be a whole number >= 1, got '0'"),
        (["steps=two"], "steps must be a whole number >= 1, got 'two'"),
        (["images=99"], "images must be a whole number >= 100, got '99'"),
        (["rows=data,stpe"], "there is no row 'stpe': choose from data, teacher"),
        (["loss=kd"], "loss=kd is not one of experiment="),
        (["--json", "nowhere/b.json"], "--json must be a file in an existing folder, got nowhere/b.json"),
        (["precision=fp16"], "precision"),
        (["experiment=cifar100/resnet20_resnet9"], "experiment=cifar100/resnet20_resnet9 does not exist"),
        (["engine.device=tpu"], "engine.device"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_arguments(words: list[str], sentence: str, capsys: Capture) -> None:
    try:
        code = command.main(words)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert sentence in printed.err


def test_a_whole_bench(presets: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GATES, "curve", lambda lab: gates.curve(lab, steps=3))
    before = torch.get_num_threads()
    file = tmp_path / "b.json"
    words = ["--config-dir", str(presets), "experiment=tiny", "precision=fp32", *SIZES, "--json", str(file)]
    assert command.main([*words, "rows=data,teacher,student,step,evaluation,epoch"]) == 0
    printed = capsys.readouterr()
    assert "gate curve: passed; loss of a KD step" in printed.err
    assert "resnet8 -> resnet8, fp32" in printed.out
    assert "KD step, live teacher" in printed.out
    assert torch.get_num_threads() == before
    data = json.loads(file.read_text())
    keys = "data teacher.live teacher.table student step.live step.table evaluation epoch.live epoch.table"
    assert [figure["key"] for figure in data["figures"]] == keys.split()
    assert {found["name"] for found in data["gates"]} == {"curve", "evaluation"}
    assert data["not_shown"] == {}
    for figure in data["figures"]:
        assert len(figure["ours"]) == len(figure["peer"]) == len(figure["ratios"]) == 1
        assert min(figure["ours"]) > 0
        assert figure["ratios"] == pytest.approx([figure["peer"][0] / figure["ours"][0]])


def test_a_failed_gate_is_an_exit_code(presets: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer.Distillation, "__call__", lambda self, student, teacher, labels: student.square().mean())
    monkeypatch.setitem(GATES, "curve", lambda lab: gates.curve(lab, steps=2))
    words = ["--config-dir", str(presets), "experiment=tiny", "precision=fp32", *SIZES, "rows=student"]
    assert command.main(words) == 1
    printed = capsys.readouterr()
    assert "student step: not shown, since its gate failed (curve)" in printed.out
    assert "gate curve: FAILED" in printed.err


@pytest.mark.parametrize("resample", ["pillow", "torch"])
def test_other_crops_than_torchvisions_fail_their_gate(tmp_path: Path, monkeypatch, resample: Resample) -> None:
    data = image_folder(root=str(write_folder(tmp_path, train=3, val=1)), size=32)
    lab: Any = SimpleNamespace(photographs=SimpleNamespace(plan=SimpleNamespace(dataset=data)))
    assert photograph_rows.pixels(lab, resample).passed
    monkeypatch.setattr(
        photograph_rows, "random_crops", lambda *sides, **draw: random_crops(*sides, **{**draw, "seed": 1})
    )
    assert not photograph_rows.pixels(lab, resample).passed


@pytest.mark.parametrize(("apart", "passed"), [(0.0, True), (1e-3, False), (float("nan"), False)])
def test_losses_of_two_processes_that_differ_fail_their_gate(monkeypatch, apart: float, passed: bool) -> None:
    monkeypatch.setattr(processes, "together", lambda lab: {"apart": apart})
    assert processes.equal_losses(None).passed is passed  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.skipif(why_not_compiled(torch.device("cpu")) is not None, reason="there is no compiler")
def test_compiled_steps_pass_their_gate(presets: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    words = ["--config-dir", str(presets), "experiment=tiny", "precision=fp32", *SIZES, "--json", str(file)]
    assert command.main([*words, "rows=compile"]) == 0
    data = json.loads(file.read_text())
    assert "compiled" in {found["name"] for found in data["gates"]}
    assert data["figures"]
    assert all(figure["preparation_seconds"] > 0 for figure in data["figures"])
