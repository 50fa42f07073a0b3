"""`distill fill`: which runs, in which order, side by side or alone; stopped by its budget and typed again."""

import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import distill.execution.execute
from distill.cli import main
from distill.cli.arguments import BUSY, FAILED, FINISHED, REFUSED
from distill.execution import stopping
from distill.execution.jobs import Outcome
from distill.runs.lock import RunLock
from distill.training import Member, NonFinite

Capture = pytest.CaptureFixture[str]
TABLE = """
title: a table of tests
source: nobody
dataset: synthetic
recipe: demo
baseline: {row: kd}
overrides: [dataset=synthetic, dataset.image_size=8, dataset.classes=4, dataset.train_size=20, dataset.test_size=8,
  student=resnet8, teacher=resnet8, recipe=demo, recipe.epochs=2, recipe.batch_size=10, teacher.recipe.epochs=1,
  teacher.recipe.batch_size=10, engine.device=cpu]
columns:
  small: {teacher: resnet8, student: resnet8, student_accuracy: 50.0}
rows:
  ce: {label: Student, preset: ce}
  kd: {label: Plain, preset: kd, published: [60.0]}
  ours: {label: Ours, preset: zscore_kd, published: [62.0]}
  other: {label: Other, published: [61.0]}
  wild: {label: Wild, preset: ce, published: [61.0], overrides: [recipe.optimizer.lr=1e30]}
"""
GONE = "  gone: {label: Gone, preset: dkdd, published: [61.0]}\n"
SOUND = "rows=ce,kd,ours"
Fill = Callable[..., tuple[int, list[list[str]]]]


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """`fill(STORE, *words)`: the exit code, and the members of each call of `fit`, as `METHOD-sSEED`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own" / "table").mkdir(parents=True)
    (tmp_path / "own" / "table" / "tiny.yaml").write_text(TABLE)
    fitted: list[list[str]] = []
    fit = distill.execution.execute.fit

    def noted(members, **options):
        fitted.append([member.name.split("-", 1)[1].rsplit("-", 1)[0] for member in members])
        return fit(members, **options)

    monkeypatch.setattr(distill.execution.execute, "fit", noted)

    def run(store: str, *words: str) -> tuple[int, list[list[str]]]:
        fitted.clear()
        return main(["fill", "table=tiny", "--config-dir", "own", f"runs_dir={store}", *words]), list(fitted)

    return run


def results(store: str) -> dict[str, tuple[bytes, bytes]]:
    """Weights and metrics of every finished run of a store, by its folder's name."""
    return {
        path.parent.name: (path.parent.joinpath("student.safetensors").read_bytes(), path.read_bytes())
        for path in sorted(Path(store).glob("*/metrics.jsonl"))
        if (path.parent / "result.json").is_file()
    }


def strikes_at(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let the deadline be reached at its `number`-th call."""
    calls = itertools.count(1)

    def ask(self: stopping.Deadline) -> bool:
        self.reached = next(calls) == number
        return self.reached

    patch.setattr(stopping.Deadline, "__call__", ask)


def test_teachers_then_one_seed_of_every_cell_then_the_next(fill: Fill, capsys: Capture) -> None:
    both = ["kd-s1", "zscore_kd-s1"], ["kd-s2", "zscore_kd-s2"]
    order = [["ce-s0"], ["ce-s1"], both[0], ["ce-s2"], both[1]]
    assert fill("filled", SOUND, "seeds=2", "teacher.source=live") == (FINISHED, order)
    told = capsys.readouterr().out
    assert told.startswith("table tiny: 3 rows x 1 columns, seeds 1, 2, teacher.seed 0\n")
    assert "7 runs to train: 13 epochs, 260 images, time unknown: no run of this pair has finished" in told
    assert told.endswith("7 of 7 runs finished\nthe table: distill table table=tiny runs_dir=filled --config-dir own\n")

    assert fill("filled", SOUND, "seeds=2", "teacher.source=live") == (FINISHED, [])
    assert "nothing is missing: 7 runs are finished" in capsys.readouterr().out
    assert fill("filled", "rows=ce", "seeds=3,")[1] == [["ce-s3"]]
    capsys.readouterr()
    assert main(["table", "table=tiny", "runs_dir=filled", "--config-dir", "own", "--format=json"]) == FINISHED
    told = capsys.readouterr().out
    assert sum(run.name.rpartition("-")[2] in told for run in Path("filled").glob("*-s[123]-*")) == 7

    words = [word.strip() for word in TABLE[TABLE.index("[") + 1 : TABLE.index("]")].split(",")]
    for loss in ("kd", "zscore_kd"):
        alone = [f"loss={loss}", "seed=2", "teacher.source=live", "runs_dir=alone"]
        assert main(["train", *words, *alone]) == FINISHED
    filled, trained = results("filled"), results("alone")
    assert len(trained) == 3  # and their teacher
    assert {name: filled[name] for name in trained} == trained


def test_several_teachers_come_one_after_the_other(fill: Fill) -> None:
    pair = [["ce-s1"], ["kd-s1"]]  # a baseline and its student; a teacher and its
    assert fill("runs", "rows=ce,kd", "seeds=1", "teacher.seed=0,1") == (FINISHED, [["ce-s0"], *pair, *pair])
    order = [["ce-s5"], ["kd-s1"], ["ce-s2"], ["kd-s2"], ["kd-s2"]]
    assert fill("runs", "rows=ce,kd", "seeds=2", "teacher.seed=0,5") == (FINISHED, order)


WORDS = (SOUND, "seeds=1", "teacher.source=live", "budget=9m")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, bytes]]:
    """The table of WORDS, filled without interruption."""
    top = tmp_path_factory.mktemp("whole")
    (top / "own" / "table").mkdir(parents=True)
    (top / "own" / "table" / "tiny.yaml").write_text(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        patch.setattr(sys, "path", list(sys.path))
        assert main(["fill", "table=tiny", "--config-dir", "own", "runs_dir=whole", *WORDS]) == FINISHED
        return results("whole")


@pytest.mark.parametrize("number", [6, 7])  # before an evaluation, and in a cohort
def test_a_budget_stops_with_code_0_and_the_command_goes_on(
    fill: Fill,
    whole: dict[str, tuple[bytes, bytes]],
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    words = WORDS
    with monkeypatch.context() as patch:
        strikes_at(patch, number)
        code, order = fill("stopped", *words)
    told = capsys.readouterr()
    assert (code, told.err) == (FINISHED, "")
    assert "the budget is used: " in told.out
    assert (
        "type the command again to go on: distill fill table=tiny --config-dir own runs_dir=stopped rows=" in told.out
    )
    half = order[-1]
    (again,) = (line.partition("go on: ")[2] for line in told.out.splitlines() if "go on: " in line)
    assert shlex.split(again)[2:] == ["table=tiny", "--config-dir", "own", "runs_dir=stopped", *words]
    code, order = fill("stopped", *words)
    assert (code, order[0]) == (FINISHED, half)  # what is half-trained comes first
    assert "1 half-trained" in capsys.readouterr().out
    assert len(whole) == 4
    assert results("stopped") == whole


def test_a_half_trained_run_is_taken_up_before_others_are_begun(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        strikes_at(patch, 7)
        assert fill("runs", "rows=kd", "seeds=2", "teacher.source=live")[1][-1] == ["kd-s2"]
    assert fill("runs", SOUND, "seeds=2")[1][:3] == [["kd-s2"], ["ce-s1"], ["zscore_kd-s1"]]


def test_nothing_starts_at_the_end_of_a_budget(fill: Fill, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(stopping.Deadline, "left", 20.0)
    assert fill("runs", SOUND, "seeds=1", "budget=9m") == (FINISHED, [])
    told = capsys.readouterr().out
    assert "0 of 4 runs finished\nthe budget is used: 4 runs are left, " in told
    assert not Path("runs").exists()


def test_what_cannot_be_trained_is_named_and_left_out(fill: Fill, capsys: Capture) -> None:
    Path("own/table/tiny.yaml").write_text(TABLE + GONE)
    assert fill("runs", "rows=Other,gone,CE", "--plan") == (FINISHED, [])
    told = capsys.readouterr().out
    assert "left out: other, all columns: we have no such method\n" in told
    assert "left out: gone, all columns: loss=dkdd does not exist: did you mean" in told
    assert "4 runs to train: 8 epochs, 160 images, time unknown" in told
    assert not Path("runs").exists()
    assert fill("runs", "rows=other,gone") == (REFUSED, [])
    assert fill("runs", "rows=other") == (REFUSED, [])
    assert "table=tiny cannot be trained here: we have no such method\n" in capsys.readouterr().err


def test_the_time_is_that_of_finished_runs_of_the_pair(fill: Fill, capsys: Capture) -> None:
    unknown = "time unknown: no run of this pair has finished on this device"
    assert fill("runs", "rows=ce", "seeds=1")[0] == FINISHED
    assert f"0 of 1 finished, 2 epochs, 40 images, {unknown}\n" in capsys.readouterr().out
    assert fill("runs", "rows=ce,kd", "seeds=2", "--plan")[0] == FINISHED
    told = capsys.readouterr().out
    assert "1 of 2 finished, 2 epochs, 40 images, about " in told
    assert f"0 of 2 finished, 4 epochs, 80 images, {unknown}\n" in told
    assert "images, about " in told.splitlines()[-2]
    assert ", and 2 runs of unknown time" in told.splitlines()[-2]
    provenance = next(Path("runs").glob("*/provenance.json"))
    elsewhere = json.loads(provenance.read_text()) | {"device": "another"}
    provenance.write_text(json.dumps(elsewhere))
    assert fill("runs", "rows=ce", "seeds=2", "--plan")[0] == FINISHED
    assert f"1 of 2 finished, 2 epochs, 40 images, {unknown}\n" in capsys.readouterr().out


def test_a_failing_run_stops_no_other(fill: Fill, capsys: Capture) -> None:
    code, order = fill("runs", "rows=wild,ce", "seeds=1")
    assert (code, order) == (FAILED, [["ce-s1"], ["ce-s1"]])
    told = capsys.readouterr().out
    assert "1 of 2 runs finished" in told
    assert "\nfailed: runs/resnet8-ce-s1-" in told
    assert fill("runs", "rows=wild", "seeds=1") == (FAILED, [])
    assert "add --retry to try it again" in capsys.readouterr().out
    assert fill("runs", "rows=wild", "seeds=1", "--retry") == (FAILED, [["ce-s1"]])


def test_the_students_of_a_failed_teacher_are_not_begun(
    fill: Fill, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_finite = Member.check_finite

    def failing(member: Member) -> None:
        if "-s0-" in member.name:  # the teacher
            raise NonFinite(1, 0, "ce")
        check_finite(member)

    monkeypatch.setattr(Member, "check_finite", failing)
    assert fill("runs", "rows=ce,kd", "seeds=1") == (FAILED, [["ce-s0"], ["ce-s1"]])
    assert "1 of 3 runs finished" in capsys.readouterr().out


def test_what_others_train_is_left_to_them(fill: Fill, capsys: Capture) -> None:
    assert fill("runs", "rows=kd", "seeds=1")[0] == FINISHED
    teacher = next(Path("runs").glob("*-s0-*"))
    student = next(Path("runs").glob("*-kd-s1-*"))
    for run in (teacher, student):
        (run / "result.json").rename(run / "kept")
    with RunLock(teacher) as lock:
        assert lock.acquire()
        assert fill("runs", "rows=ce,kd", "seeds=1") == (BUSY, [["ce-s1"]])
    assert "busy: " in capsys.readouterr().out
    for run in (teacher, student):
        (run / "kept").rename(run / "result.json")
    assert fill("runs", "rows=ce,kd", "seeds=1") == (FINISHED, [])
    shutil.rmtree(teacher)  # as where the students alone were brought
    assert fill("runs", "rows=ce,kd", "seeds=1") == (FINISHED, [])


def test_what_others_have_finished_meanwhile_is_not_busy(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert fill("runs", "rows=ce", "seeds=1")[0] == FINISHED
    run = next(Path("runs").glob("*-s1-*"))
    (run / "result.json").rename(run / "kept")

    def elsewhere(plans, watch, **options) -> list[Outcome]:
        (run / "kept").rename(run / "result.json")
        return [Outcome(plan.directory.name, str(plan.directory), "busy", "being trained") for plan in plans]

    monkeypatch.setattr("distill.execution.filling.follow_plans", elsewhere)
    capsys.readouterr()
    assert fill("runs", "rows=ce", "seeds=1") == (FINISHED, [])
    told = capsys.readouterr().out
    assert "1 of 1 runs finished" in told
    assert "busy" not in told


def test_a_damaged_run_is_not_finished_and_is_named(fill: Fill, capsys: Capture) -> None:
    assert fill("runs", "rows=ce", "seeds=1")[0] == FINISHED
    run = next(Path("runs").glob("*-s1-*"))
    for damage in ("{", json.dumps({"last": {"accuracy": 50.0}})):
        (run / "result.json").write_text(damage)
        capsys.readouterr()
        assert fill("runs", "rows=ce", "seeds=1", "--plan") == (FINISHED, [])
        assert "0 of 1 finished, 1 damaged, 0 epochs, 0 images, time unknown" in capsys.readouterr().out
        assert fill("runs", "rows=ce", "seeds=1") == (FAILED, [])
        assert "restore it, or delete the folder to train the run again" in capsys.readouterr().out


def test_a_teacher_whose_weights_are_elsewhere_is_told_before_anything_starts(fill: Fill, capsys: Capture) -> None:
    assert fill("runs", "rows=kd", "seeds=1", "teacher.source=live")[0] == FINISHED
    teacher = next(Path("runs").glob("*-s0-*"))
    (teacher / "student.safetensors").unlink()  # as a record of results brings it
    assert fill("runs", "rows=ce,kd", "seeds=1") == (FINISHED, [["ce-s1"]])
    capsys.readouterr()
    assert fill("runs", "rows=ce,kd", "seeds=1,2") == (FINISHED, [["ce-s2"]])
    assert f"left out: kd, all columns: teacher resnet8: {teacher} is a record" in capsys.readouterr().out
    assert fill("runs", "rows=kd", "seeds=1,2") == (REFUSED, [])


def test_a_teacher_with_which_no_run_would_fill_its_cell_is_refused(fill: Fill, capsys: Capture) -> None:
    words = [word.strip() for word in TABLE[TABLE.index("[") + 1 : TABLE.index("]")].split(",")]
    words = [word for word in words if not word.startswith(("student", "teacher", "recipe.epochs"))]
    for student, store in (("resnet14", "runs"), ("resnet8", "elsewhere")):
        trained = [*words, f"student={student}", "loss=ce", "seed=7", "recipe.epochs=1", f"runs_dir={store}"]
        assert main(["train", *trained]) == FINISHED
    (other,), (elsewhere,) = (Path(store).glob("*-s7-*") for store in ("runs", "elsewhere"))
    capsys.readouterr()
    assert fill("runs", "rows=ce,kd", "seeds=1", f"teacher.run={other.name}") == (REFUSED, [])
    assert capsys.readouterr().err == (
        f"teacher.run={other.name} is the run of a resnet14, and table=tiny shows students of resnet8 here, so the "
        "runs would fill no cell: name a run of resnet8, or leave teacher.run out\n"
    )
    assert fill("runs", "rows=ce,kd", "seeds=1", f"teacher.run={elsewhere}") == (REFUSED, [])
    told = capsys.readouterr().err
    assert told.startswith(f"teacher.run={elsewhere} lies outside of runs, where table=tiny looks for its network: ")
    (command,) = re.findall("`distill (.*)`", told)
    assert main(shlex.split(command)) == FINISHED
    assert fill("runs", "rows=ce,kd", "seeds=1", f"teacher.run={elsewhere.name}") == (FINISHED, [["ce-s1"], ["kd-s1"]])
    capsys.readouterr()
    assert main(["table", "table=tiny", "runs_dir=runs", "--config-dir", "own", "--format=json"]) == FINISHED
    (student,) = Path("runs").glob("*-kd-s1-*")
    assert student.name.rpartition("-")[2] in capsys.readouterr().out


def test_a_pinned_source_is_compared_with_every_finished_seed(fill: Fill, capsys: Capture) -> None:
    assert fill("runs", "rows=kd", "seeds=1", "teacher.source=live")[0] == FINISHED
    capsys.readouterr()
    assert fill("runs", "rows=kd", "seeds=3,1", "teacher.source=table") == (REFUSED, [])
    assert "has source live: leave the source out to take that run" in capsys.readouterr().err


def test_a_seed_that_presets_read_elsewhere_is_composed_anew(fill: Fill, capsys: Capture) -> None:
    Path("own/loss").mkdir()
    preset = "defaults: [/loss/kd@_here_]\ntemperature: ${seed}\n"
    Path("own/loss/mine.yaml").write_text(preset)
    Path("own/table/tiny.yaml").write_text(TABLE.replace("preset: kd", "preset: mine"))
    assert fill("runs", "rows=kd", "seeds=2,3") == (FINISHED, [["ce-s0"], ["kd-s2"], ["kd-s3"]])
    capsys.readouterr()
    assert main(["ls", "runs_dir=runs", "loss.temperature=3", "--format=json"]) == FINISHED
    assert [run["seed"] for run in json.loads(capsys.readouterr().out)["runs"]] == [3]


REFUSALS = {
    "": [],
    "rows=kdd": ["rows=kdd is not in table=tiny: did you mean 'kd'?"],
    "columns=smal": ["columns=smal is not in table=tiny: did you mean 'small'?"],
    "budget=9": ["budget=9 must be a time with its unit: 90s, 9m, 2h or 1h30m"],
    "budget=0m": ["budget=0m must be more than 0: 9m, for example"],
    "seeds=0 teacher.seed=x": [
        "seeds=0 must be a number of seeds (1 to 100) or a list",
        "teacher.seed=x must be whole numbers",
    ],
    "seeds=1,x": ["seeds=1,x must be a number of seeds (1 to 100) or a list of seeds: seeds=4, or seeds=1,2,5"],
    "seed=1 loss=kd": ["loss= is set by the cells of the table", "seed= is for one run"],
    "precision=fp32,bf16": ["precision=fp32,bf16 names several values: choose one"],
    "bugdet=9m --reply": ["unknown key 'bugdet' in 'bugdet=9m': did you mean 'budget'?", "did you mean '--retry'?"],
    "rows=kd recipe.epochs=3 loss.temperature=3 recipe.batch_size=10 teacher.source=live engine.threads=1": [
        "recipe.epochs=3 differs from what the cells of table=tiny require, so its runs would fill none",
        "loss.temperature=3 differs from what the cells of table=tiny require",
    ],
    "rows=kd teacher.recipe.epochs=2": ["teacher.recipe.epochs=2 differs from what the cells of table=tiny require"],
    "engine.thread=1 recipe.epochs=many": [
        "engine.thread is not a key: did you mean 'threads'?",
        "recipe.epochs must be",
    ],
}


@pytest.mark.parametrize("line", [line for line in REFUSALS if line])
def test_fill_refusals_are_whole_and_write_nothing(fill: Fill, line: str, capsys: Capture) -> None:
    assert fill("runs", *line.split()) == (REFUSED, [])
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert len(lines) == len(REFUSALS[line])
    assert all(sentence in each for sentence, each in zip(REFUSALS[line], lines, strict=True)), lines
    assert told.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "fill needs a table: add table=NAME, one of ablation, cifar100_cross, "),
        (["table=cifar100_sam"], "table=cifar100_sam does not exist: did you mean 'cifar100_same'?"),
        (["table=imagenet"], "dataset.root (class folders) or dataset.shards (tar files) must name a folder"),
        (["table=cifar100_small", "dataset.npz=gone.npz"], "there is no file gone.npz"),
        (["table=cifar100_cross", "teacher.run=ab12"], "teacher.run= is one teacher, but the columns have several"),
    ],
)
def test_refusals_of_shipped_tables(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fill", *words]) == REFUSED
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert sentence in told.err
    assert list(tmp_path.iterdir()) == []
