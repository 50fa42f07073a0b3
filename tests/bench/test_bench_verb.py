"""`distill bench` as it is typed: refused in sentences, run in one piece, its JSON complete."""

import importlib
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from distill.bench.lab import Lab
from distill.bench.rows import ROWS, memory
from distill.bench.rows import run as runs
from distill.cli import bench as verb
from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED, REFUSED, help_text, parse

Capture = pytest.CaptureFixture[str]
SIZES = ("rounds=1", "steps=1", "images=100")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without anything."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rounds=0"], "rounds must be a whole number >= 1, got '0': change it"),
        (["steps=two"], "steps must be a whole number >= 1, got 'two': change it"),
        (["images=99"], "images must be a whole number >= 100, got '99': change it"),
        (["rows=data,stpe"], "there is no row 'stpe': did you mean 'step'?"),
        (["precision=fp16"], "precision cannot be 'fp16': "),
        (["experiment=a,b"], "experiment names several: choose one pair for a bench"),
        (["loss=kd"], "unknown key 'loss' in 'loss=kd'"),
        (["--json", "nowhere/b.json"], "--json must be a file in a folder that is there, got nowhere/b.json"),
        (["experiment=cifar100/resnet20_resnet9"], "experiment=cifar100/resnet20_resnet9 does not exist"),
        (["engine.device=tpu"], "engine.device"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_done(words: list[str], sentence: str, capsys: Capture) -> None:
    assert command(["bench", *words]) == REFUSED
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert sentence in told.err
    assert list(Path.cwd().iterdir()) == []


def test_the_rows_of_the_command_are_the_rows_there_are() -> None:
    assert set(verb.ROWS) == set(ROWS)
    line = parse([], verb.VERB)
    assert verb.asked_rows(line, gpu=True) == list(verb.ROWS)
    assert set(verb.ROWS) - set(verb.asked_rows(line, gpu=False)) == {"run", "table", "kernels"}
    assert verb.asked_rows(parse(["rows=step,run,data"], verb.VERB), gpu=False) == ["data", "step", "run"]
    assert all(name in help_text(verb.VERB, None) for name in verb.ROWS)


def test_a_bench_in_one_piece(presets: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.bench.gates.curve.STEPS", 3)
    before = torch.get_num_threads()
    words = ["--config-dir", str(presets), "experiment=tiny", "precision=fp32", *SIZES, "--json", "b.json"]
    assert command(["bench", *words, "rows=data,teacher,student,step,evaluation,epoch", "--out", "b.md"]) == FINISHED
    told = capsys.readouterr()
    assert told.out.splitlines() == ["wrote b.json", "wrote b.md"]
    assert "gate crops: passed; crops and flips" in told.err
    assert torch.get_num_threads() == before
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["b.json", "b.md"]
    found = json.loads(Path("b.json").read_text())
    check(found)
    keys = [figure["key"] for figure in found["figures"]]
    assert keys == [
        "data",
        "teacher.live",
        "teacher.table",
        "student",
        "step.live",
        "step.table",
        "evaluation",
        "epoch.live",
        "epoch.table",
    ]
    assert {gate["name"] for gate in found["gates"]} == {"crops", "folded", "table", "curve", "evaluation"}
    text = Path("b.md").read_text()
    assert "| KD step, live teacher |" in text
    assert "resnet8 -> resnet8, fp32" in text


def check(found: dict[str, Any]) -> None:
    """Every figure has its rounds, its gates have passed, and its ratios are those of its costs."""
    assert found.keys() == {
        *("format", "pair", "precision", "native_bf16", "settings", "machine", "before", "after"),
        *("gates", "figures", "not_shown", "targets"),
    }
    rounds = found["settings"]["sizes"]["rounds"]
    passed = {gate["name"] for gate in found["gates"] if gate["passed"]}
    for figure in found["figures"]:
        assert len(figure["ours"]) == len(figure["peer"]) == len(figure["ratios"]) == rounds
        assert min(figure["ours"]) > 0
        expected = [theirs / ours for theirs, ours in zip(figure["peer"], figure["ours"], strict=True)]
        assert figure["ratios"] == pytest.approx(expected)
        assert set(figure["gates"]) <= passed
    assert {target["verdict"] for target in found["targets"]} <= {"met", "missed", "not measured"}
    assert found["not_shown"] == {}


def test_a_failed_gate_is_an_exit_code(presets: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    flipped = importlib.import_module("distill.bench.peer").pil
    monkeypatch.setattr(flipped, "hflip", lambda image: image)
    words = ["--config-dir", str(presets), "experiment=tiny", *SIZES, "rows=data"]
    assert command(["bench", *words]) == FAILED
    told = capsys.readouterr()
    assert "data path: not shown, since its gate failed (crops)" in told.out
    assert "us/image" not in told.out
    assert "gate crops: FAILED" in told.err


def test_compiling_is_left_out_where_there_is_no_compiler(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.bench.rows.why_not_compiled", lambda device: "there is no C++ compiler")
    told: list[str] = []
    assert ROWS["compile"](lab, told.append) == []
    assert told == ["row compile is left out: there is no C++ compiler"]


def test_cohorts_and_more_work_are_counted_for_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.bench.rows.steps.COHORTS", (1, 4))
    monkeypatch.setattr("distill.bench.rows.epochs.WORK", (1, 2))
    told: list[str] = []
    cohorts = ROWS["cohort"](lab, told.append)
    assert [figure.key for figure in cohorts] == ["cohort1.live", "cohort4.live", "cohort4.table"]
    assert all("cohort" in figure.gates for figure in cohorts)
    one, four = (figure.cost for figure in cohorts[:2])
    assert four < 3 * one  # of one student, not of all four
    work = ROWS["work"](lab, told.append)
    assert [figure.key for figure in work] == ["work.epochs2", "work.images2"]
    assert told == []


def test_a_run_and_a_table_are_told_from_a_part(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"IMAGES": 100, "EVALUATED": 10, "COUNTED": 2, "BEFORE": 1, "COHORT": 2, "CHUNKS": 0}.items():
        monkeypatch.setattr(f"distill.bench.rows.run.{name}", value)
    monkeypatch.setattr("distill.teachers.table_file.CHUNK_ROWS", 64)
    clock = iter([1.0, 2.0, 3.0, 5.0])
    timed = lab.clock
    lab.clock = lambda work: (timed(work), next(clock))[1]
    try:
        told: list[str] = []
        one, two = runs.whole_runs(lab, told.append)
        assert (one.key, one.ours, one.ratio) == ("run.table", (240.0, 480.0), None)
        assert (two.key, two.ours) == ("run.cohort2.table", (360.0, 600.0))
        assert "cohort" in two.gates
        lab.clock = lambda work: (work(), 0.5)[1]
        monkeypatch.setattr("distill.bench.rows.run.TableFile", small_table)
        (table,) = runs.building(lab, told.append)
    finally:
        lab.clock = timed
    assert table.key == "table.build"
    assert table.ours == (0.5 / 64 * 100 * 162,)
    assert told[-1] == f"table.build: chunk 1 of {-(-100 * 162 // 64)}"


def small_table(folder: Path, spec: Any) -> Any:
    from distill.teachers.table_file import TableFile

    return TableFile(folder, spec, chunk_rows=64)


@pytest.mark.parametrize("variant", [memory.PEER, "memory.live", "memory.table"])
def test_peak_memory_is_that_of_a_training(lab: Lab, variant: str) -> None:
    peak = memory.peak_of(variant, lab.settings)
    assert peak is None or peak > 50e6


def test_memory_is_measured_in_children(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def child(command: list[str], **options: Any) -> SimpleNamespace:
        assert command[1:3] == ["-m", "distill.bench.child"]
        asked.append(command[3])
        settings = json.loads(command[4])
        assert settings["experiment"] == "tiny"
        return SimpleNamespace(returncode=0, stdout=f"{len(asked) * 100}\n", stderr="")

    monkeypatch.setattr(subprocess, "run", child)
    found = memory.peaks(lab, print)
    assert asked == ["peer", "memory.live", "memory.table", "memory.cohort4"]
    assert [(figure.ours, figure.peer, figure.quantity) for figure in found] == [
        ((ours,), (100.0,), "bytes") for ours in (200.0, 300.0, 400.0)
    ]
    failed = SimpleNamespace(returncode=1, stdout="", stderr="a trace\nKilled")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: failed)
    with pytest.raises(RuntimeError, match="the memory of peer failed: Killed"):
        memory.peaks(lab, print)


@pytest.mark.slow
def test_a_real_child_tells_its_peak(lab: Lab) -> None:
    (*_, cohort) = memory.peaks(lab, print)
    assert cohort.cost > 50e6


@pytest.mark.slow
def test_compiled_steps_pass_their_gate(presets: Path, capsys: Capture) -> None:
    words = ["--config-dir", str(presets), "experiment=tiny", "precision=fp32", *SIZES, "--format", "json"]
    assert command(["bench", *words, "rows=compile"]) == FINISHED
    found = json.loads(capsys.readouterr().out)
    assert "compiled" in {gate["name"] for gate in found["gates"]} or not found["figures"]
    assert all(figure["preparation_seconds"] > 0 for figure in found["figures"])
