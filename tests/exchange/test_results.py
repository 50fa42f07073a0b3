"""`distill export --results`: small files from which the same table comes, equal bytes for equal runs."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.cli import main
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.exchange.results import FILES

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
spec = importlib.util.spec_from_file_location("store_files", ROOT / "tests" / "tables" / "store_files.py")
assert spec is not None
assert spec.loader is not None
store_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(store_files)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of a teacher, two methods of three seeds and a baseline, with weights and events beside."""
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    teacher = store_files.add_run(runs, accuracy=97.0, student="resnet20", loss="ce", seed=0)
    taught = {**store_files.TEACHER, "run_id": teacher}
    store_files.add_seeds(runs, [90.0, 91.0, 92.5], loss="kd", teacher=taught)
    store_files.add_seeds(runs, [91.5, 93.0, 93.5], loss="zscore_kd", teacher=taught)
    store_files.add_seeds(runs, [88.0, 89.0], loss="ce")
    for run in runs.iterdir():
        change(run, classes=10)
        (run / "student.safetensors").write_bytes(b"weights")
        (run / "events.out.tfevents.1.host").write_bytes(b"events")
        (run / "provenance.json").write_text('{"device": "cpu"}')
        (run / "tables").mkdir()
    return runs


def change(run: Path, **facts: object) -> None:
    """Change a run's result."""
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, **facts}))


def export(*words: str) -> int:
    """The exit code of `distill export --results`."""
    return main(["export", "--results", *words])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def said(capsys: Capture, *words: str) -> str:
    """What a command prints; where the runs lie is not its content."""
    capsys.readouterr()
    assert main(list(words)) == FINISHED
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "form", [(), ("--cost",), ("--format", "json"), ("--baseline", "kd", "--format=csv"), ("seed=1,2",)]
)
def test_the_table_of_the_files_is_the_table_of_the_store(store: Path, form: tuple[str, ...], capsys: Capture) -> None:
    assert export("--out", "kept") == FINISHED
    there, here = (said(capsys, "table", *form, f"runs_dir={where}") for where in ("runs", "kept"))
    assert here == there
    assert "zscore_kd" in here


def test_the_files_are_small_and_the_same_again(store: Path, capsys: Capture) -> None:
    assert export() == FINISHED
    assert "9 runs written to results; " in capsys.readouterr().out
    kept = contents(Path("results"))
    assert {Path(name).name for name in kept} <= set(FILES)
    assert len(kept) == 9 * 4  # no timing was written
    assert kept == {name: (store / name).read_bytes() for name in kept}
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")}
    assert export("--out=results") == FINISHED
    assert "0 runs written to results, 9 there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("results").rglob("*")} == before


def test_filters_choose_and_teachers_come_along(store: Path) -> None:
    assert export("loss=kd", "seed=2", "--out", "some") == FINISHED
    assert sorted(path.name.split("-s")[0] for path in Path("some").iterdir()) == ["resnet20-ce", "resnet8-kd"]


def test_a_killed_export_is_finished_by_the_next(store: Path) -> None:
    assert export() == FINISHED
    whole = contents(Path("results"))
    run = next(Path("results").iterdir())
    (run / "result.json").unlink()
    (run / "config.yaml").write_bytes(b"half")
    (run / ".config.yaml.1.tmp").write_bytes(b"x")
    assert export() == FINISHED
    assert contents(Path("results")) == whole


def test_folders_of_this_machine_are_left_out(store: Path, capsys: Capture) -> None:
    store_files.add_run(store, loss="kd", seed=9, dataset="arrays", npz="/home/me/my data/x.npz")
    change(next(store.glob("*-s9*")), classes=10)
    assert export("--out", "kept") == FINISHED
    (run,) = Path("kept").glob("*-s9*")
    content: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    assert content["config"]["dataset"]["npz"] == "x.npz"
    assert content["names"]["dataset"] == "arrays npz=x.npz"
    assert not any(b"/home" in data for data in contents(Path("kept")).values())
    assert said(capsys, "table", "runs_dir=kept") == said(capsys, "table", "runs_dir=runs")
    assert export("--out", "kept") == FINISHED


def test_a_folder_that_ends_in_a_slash_keeps_its_name(store: Path) -> None:
    store_files.add_run(store, loss="kd", seed=9, dataset="arrays", npz="/home/me/photos/")
    assert export("seed=9", "--out", "kept") == FINISHED
    (run,) = Path("kept").glob("*-s9*")
    assert yaml.safe_load((run / "config.yaml").read_text())["config"]["dataset"]["npz"] == "photos"


def test_what_is_not_finished_is_counted_and_damage_is_told(store: Path, capsys: Capture) -> None:
    store_files.add_run(store, accuracy=None, loss="kd", seed=7, epochs_done=2)
    store_files.add_run(
        store, accuracy=None, loss="kd", seed=8, failure={"message": "x", "epoch": 1, "step": 1, "term": "kd"}
    )
    assert export() == FINISHED
    assert "left out: 1 unfinished, 1 failed" in capsys.readouterr().out
    shutil.rmtree("results")
    run = next(store.glob("resnet8-kd-s1*"))
    (run / "result.json").write_text("{")
    assert export() == FAILED
    told = capsys.readouterr()
    assert "8 runs written" in told.out
    assert "result.json is damaged: it is not valid JSON" in told.err


def test_what_would_be_replaced_is_refused(store: Path, capsys: Capture) -> None:
    assert export() == FINISHED
    run = next(Path("results").glob("resnet8-kd-s1*"))
    change(run, seconds=1.0)
    shutil.rmtree(next(Path("results").glob("resnet8-kd-s2*")))
    before = contents(Path("results"))
    assert export() == REFUSED
    assert "holds another result of this run: delete it, or choose another --out DIR" in capsys.readouterr().err
    assert contents(Path("results")) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run=ab"], "run does not go with --results"),
        (["--format", "onnx"], "--format does not go with --results"),
        (["--out", "runs"], "--out runs is where the runs lie: choose another --out DIR"),
        (["--out", "file"], "--out must be a folder, file is a file"),
        (["studnet=resnet8"], "did you mean 'student'?"),
        (["loss.temprature=4"], "did you mean 'loss.temperature'?"),
    ],
)
def test_result_refusals(store: Path, words: list[str], sentence: str, capsys: Capture) -> None:
    Path("file").touch()
    before = contents(Path())
    assert export(*words) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert sentence in line
    assert contents(Path()) == before


def test_nothing_to_export_is_one_line(store: Path, capsys: Capture) -> None:
    assert export("loss=dkd") == FINISHED
    assert "have loss ce or kd or zscore_kd" in capsys.readouterr().out
    assert not Path("results").exists()
