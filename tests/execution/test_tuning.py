"""`distill train sweep=...` that tunes, to its end: the grid, the choice, the runs on all images."""

from itertools import pairwise
from pathlib import Path

import pytest

from distill.cli import main
from distill.execution.progress import WIDTH
from distill.runs.store import scan

LINE = (
    "train sweep=temperature loss=kd,zscore_kd loss.temperature=1,4 sweep.select.seeds=1 dataset=synthetic "
    "dataset.image_size=16 dataset.train_size=60 dataset.test_size=20 teacher=resnet8 teacher.source=live "
    "teacher.recipe.epochs=1 recipe.epochs=1 engine.device=cpu"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_method_ends_with_its_best_cell_on_all_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE.split(), "sweep.select.seeds=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    teachers = [line for line in lines if line.startswith("teacher ") and "%" in line]
    assert len(teachers) == 2, "one line about the teacher on the held-out images, one on the test set"
    told = [" ".join(pair) for pair in pairwise(lines) if pair[0].startswith("chosen: ")]
    assert len(told) == 2
    students = [run for run in scan(Path("runs")) if run.names["teacher"] != "none"]
    tuned = [run for run in students if run.identity["data"]["holdout"]]
    final = [run for run in students if not run.identity["data"]["holdout"]]
    assert len(tuned) == 4
    assert len(final) == 4
    for line, preset in zip(told, ("kd", "zscore_kd"), strict=True):
        mine = [run for run in tuned if run.names["loss"].split()[0] == preset]
        best = max(run.result["last"]["accuracy"] for run in mine)
        assert f"loss={preset} loss.temperature=" in line
        assert f"{best:.2f} % on 6 held-out images " in line
        assert "the best of 2 configurations; now on all images, 2 seeds of students" in line
        temperature = float(line.split("loss.temperature=")[1].split(",")[0])
        chosen = [run for run in final if run.names["loss"].split()[0] == preset]
        assert [run.identity["seed"] for run in chosen] == [1, 2]
        assert {run.config["loss"]["temperature"] for run in chosen} == {temperature}


def test_a_tuned_sweep_typed_again_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    line = LINE.replace("loss=kd,zscore_kd", "loss=kd").split()
    assert main(line) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "chosen: loss.temperature=" in told
    assert told.count("was finished before") == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_of_cells_that_tie_the_first_is_taken_and_the_sweep_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    line = LINE.replace("loss=kd,zscore_kd", "loss=kd").replace("loss.temperature=1,4", "loss.temperature=4")
    assert main([*line.split(), "dataset.holdout=1", "recipe.optimizer.lr=1e-09,2e-09"]) == 0  # both learn nothing
    told = capsys.readouterr().out
    assert "chosen: recipe.optimizer.lr=1e-09, " in told
    assert "held-out images\n  the first of 2 that tie as the best of 2 configurations; now on all images" in told


def test_a_cell_that_failed_is_not_chosen_and_the_sweep_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    line = LINE.replace("loss=kd,zscore_kd", "loss=kd").replace("loss.temperature=1,4", "loss.temperature=4")
    assert main([*line.split(), "recipe.optimizer.lr=0.05,1e30"]) == 1
    told = capsys.readouterr().out
    assert "chosen: recipe.optimizer.lr=0.05, " in told
    assert "the best of 1 configurations" in told


def test_nothing_is_chosen_where_nothing_finished(capsys: pytest.CaptureFixture[str]) -> None:
    line = LINE.replace("loss=kd,zscore_kd", "loss=kd").replace("loss.temperature=1,4", "loss.temperature=4")
    assert main([*line.split(), "recipe.optimizer.lr=1e30"]) == 1
    assert "nothing to choose from for this sweep: no configuration finished" in capsys.readouterr().out
