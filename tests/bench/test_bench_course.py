"""A figure is shown only where its gates passed: in the table, in the data, in the exit code."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from distill.bench.course import Bench, behind, bench
from distill.bench.figure import Figure
from distill.bench.gates import Gate
from distill.bench.lab import Lab
from distill.bench.report import document
from distill.bench.settings import Settings
from distill.bench.targets import TARGETS, Circumstances, Target, targets_of, verdict
from distill.cli.benching import notes, sheet, views
from distill.tables.rendering import render

SMALL = "resnet20 -> resnet8"
SECRET = 7.654321


def gate(name: str, *, passed: bool = True) -> Callable[[Lab], Gate]:
    return lambda lab: Gate(name, passed, f"{name} is as it is", {"off": 0.5})


def step(lab: Lab, note: Callable[[str], None]) -> list[Figure]:
    return [
        Figure("step.live", "KD step, live teacher", "step", ("crops", "curve"), (1.0, 1.0), (2.0, 3.0)),
        Figure("step.table", "KD step, table", "step", ("crops", "table"), (1.0, 1.0), (SECRET, SECRET)),
    ]


def broken(lab: Lab, note: Callable[[str], None]) -> list[Figure]:
    raise OSError("no room")


@pytest.fixture
def found(lab: Lab, settings: Settings) -> Callable[..., Bench]:
    def of(rows: Mapping[str, Any], **gates: bool) -> Bench:
        all_gates = {name: gate(name, passed=gates.get(name, True)) for name in ("crops", "curve", "table")}
        return bench(lab.plan, settings, list(rows), note=lambda text: None, rows=rows, gates=all_gates)

    return of


def test_a_sound_bench_shows_its_figures(found: Callable[..., Bench]) -> None:
    result = found({"step": step})
    assert result.sound
    assert [figure.key for figure in result.figures] == ["step.live", "step.table"]
    assert set(result.gates) == {"crops", "curve", "table"}
    told = document(result)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["figures"][0]["ratios"] == [2.0, 3.0]
    assert (told["figures"][0]["ratio"], told["figures"][0]["spread"], told["figures"][0]["noisy"]) == (2.5, 1.5, True)


def test_a_figure_whose_gate_failed_is_nowhere(found: Callable[..., Bench]) -> None:
    result = found({"step": step}, table=False)
    assert not result.sound
    assert [figure.key for figure in result.figures] == ["step.live"]
    for form in ("plain", "terminal", "markdown", "latex", "csv", "json", "html"):
        text = render(views(result), form=form)
        assert "7.65" not in text, form
        assert "2.5" in text, form
    assert "KD step, table: not shown, since its gate failed (table)" in notes(result)
    assert "gate table FAILED. table is as it is" in notes(result)
    assert document(result)["not_shown"].keys() == {"step.table"}


def test_a_row_that_breaks_leaves_the_others(found: Callable[..., Bench]) -> None:
    result = found({"data": broken, "step": step})
    assert not result.sound
    assert len(result.figures) == 2
    assert result.hidden == {"data": "row data could not be measured: OSError: no room"}


def test_in_bf16_a_figure_stands_behind_more() -> None:
    figure = Figure("step.live", "it", "step", ("crops", "folded", "curve"), (1.0,), (1.0,))
    assert behind(figure, "fp32") == ("crops", "folded", "curve")
    assert behind(figure, "bf16") == ("crops", "folded", "curve", "folded bf16", "curve bf16")


def test_noise_is_flagged(found: Callable[..., Bench]) -> None:
    result = found({"step": step})
    noisy, quiet = sheet(result).rows[:2]
    assert noisy[2].endswith(" !")
    assert not quiet[2].endswith("!")
    assert any(note.startswith("! rounds differ") for note in notes(result))


def test_the_data_hold_what_one_must_know(found: Callable[..., Bench]) -> None:
    told = document(found({"step": step}))
    machine = told["machine"]
    assert machine["threads"] == 1
    assert machine["flags"].keys() == {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    assert {"commit", "dirty", "versions", "device", "isa", "distill", "timer", "cores"} <= machine.keys()
    for moment in (told["before"], told["after"]):
        assert moment.keys() == {"time", "load", "clock_mhz"}
    assert told["settings"]["sizes"]["rounds"] == 1
    assert "config_dir" not in told["settings"]  # a path of somebody's machine
    assert [gate["name"] for gate in told["gates"]] == ["crops", "curve", "table"]


HERE = Circumstances(SMALL, "fp32", "cpu", "Some processor", native_bf16=False)
NATIVE = Circumstances(SMALL, "fp32", "cpu", "Some processor", native_bf16=True)


def figure(key: str, ratio: float) -> Figure:
    return Figure(key, key, "step", (), (1.0,), (ratio,))


@pytest.mark.parametrize(
    ("target", "here", "expected"),
    [
        (Target("step.live", SMALL, "fp32", ratio=1.45), HERE, "met"),
        (Target("step.live", SMALL, "fp32", ratio=1.55), HERE, "missed"),
        (Target("step.live", None, None, ratio=1.45), HERE, "met"),
        (Target("step.live", SMALL, "bf16", ratio=1.0), HERE, "not measured"),
        (Target("step.live", "other -> pair", "fp32", ratio=1.0), HERE, "not measured"),
        (Target("step.live", SMALL, "fp32", ratio=1.0, device="cuda"), HERE, "not measured"),
        (Target("step.live", SMALL, "fp32", ratio=1.0, hardware="H200"), HERE, "not measured"),
        (Target("step.table", SMALL, "fp32", ratio=1.0), HERE, "not measured"),
        (Target("step.live", SMALL, "bf16", ratio=1.0), NATIVE, "not measured"),
        (Target("step.live", SMALL, "fp32", ratio=1.0), NATIVE, "met"),
        (Target("step.live", SMALL, "fp32", seconds=1.0), HERE, "met"),
        (Target("step.live", SMALL, "fp32", seconds=0.9), HERE, "missed"),
    ],
)
def test_a_verdict_is_about_what_was_measured(target: Target, here: Circumstances, expected: str) -> None:
    assert verdict(target, figure("step.live", 1.5), here) == expected
    assert verdict(target, None, here) == "not measured"


def test_bf16_targets_are_for_hardware_that_multiplies_it() -> None:
    target = Target("step.live", SMALL, "bf16", ratio=1.0)
    emulated = Circumstances(SMALL, "bf16", "cpu", "", native_bf16=False)
    native = Circumstances(SMALL, "bf16", "cpu", "", native_bf16=True)
    assert verdict(target, figure("step.live", 1.5), emulated) == "not measured"
    assert verdict(target, figure("step.live", 1.5), native) == "met"


def test_every_target_names_one_bound_and_targets_of_a_pair_are_its_own() -> None:
    assert all((target.ratio is None) != (target.seconds is None) for target in TARGETS)
    assert {target.figure for target in targets_of("any -> pair")} == {"data"}
    assert {target.figure for target in targets_of(SMALL)} >= {"data", "step.live", "step.table", "cohort4.live"}


def test_targets_stand_beside_their_figures_by_precision(
    found: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = found({"step": step})
    here = Circumstances(SMALL, "fp32", "cpu", "Some processor", native_bf16=False)
    shown = sheet(Bench(**{**vars(result), "here": here}))
    cells = {row[0]: row[-2:] for row in shown.rows}
    assert shown.headers[-2:] == ("target fp32", "target bf16")
    assert cells["KD step, live teacher"] == ("1.45x met", "3.2x not measured")
    assert cells["data"] == ("13x not measured", "-")
