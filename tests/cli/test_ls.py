"""`distill ls`: one run a line."""

import csv
import fcntl
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED

ROOT = Path(__file__).resolve().parents[2]
FILES = runpy.run_path(str(ROOT / "tests" / "tables" / "store_files.py"))
add_run, add_seeds = FILES["add_run"], FILES["add_seeds"]
Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill ls` with these words; return the exit code."""
    return command(["ls", *words])


@pytest.fixture
def store(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs in every state but running."""
    add_seeds(runs_dir, [92.0, 93.5], loss="kd")
    add_run(runs_dir, loss="ce", accuracy=90.126)
    add_run(runs_dir, loss="zscore_kd", seed=10, holdout=100, accuracy=80.0)
    add_run(runs_dir, loss="zscore_kd", seed=9, accuracy=None, epochs_done=3)
    failure = {"epoch": 4, "step": 17, "term": "kd", "message": "kd is nan", "when": "now"}
    add_run(runs_dir, loss="zscore_kd", seed=8, failure=failure, epochs_done=3)
    add_run(runs_dir, loss="ce", student="resnet20", seed=0, accuracy=97.0, precision="bf16")
    monkeypatch.setenv("DISTILL_RUNS", str(runs_dir))
    return runs_dir


EXPECTED = """\
finished	digits	resnet8	none	ce	1	fp32	90.13
finished	digits	resnet8	resnet20	kd	1	fp32	92.00
finished	digits	resnet8	resnet20	kd	2	fp32	93.50
failed at epoch 4, step 17, in kd	digits	resnet8	resnet20	zscore_kd	8	fp32	53.00
unfinished at epoch 3 of 10	digits	resnet8	resnet20	zscore_kd	9	fp32	53.00
finished	digits	resnet8	resnet20	zscore_kd	10	fp32	80.00 on holdout
finished	digits	resnet20	none	ce	0	bf16	97.00
"""


def test_one_run_a_line_in_a_stable_order(store: Path, capsys: Capture) -> None:
    assert main([]) == FINISHED
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == "id\tstatus\tdataset\tstudent\tteacher\tloss\tseed\tprecision\taccuracy"
    assert "\n".join(line.split("\t", 1)[1] for line in lines) + "\n" == EXPECTED
    ids = {line.split("\t")[0] for line in lines}
    assert len(ids) == 7
    assert all(next(store.glob(f"*-{run_id}")).is_dir() for run_id in ids)


def test_a_run_under_way_says_who_has_it(store: Path, capsys: Capture) -> None:
    run_id = add_run(store, loss="kd", seed=7, accuracy=None, epochs_done=2)
    lock = next(store.glob(f"*-{run_id}")) / "lock"
    lock.write_text(json.dumps({"pid": 12, "host": "here", "since": "noon", "command": "distill train"}))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["loss=kd", "seed=7"]) == FINISHED
    line = capsys.readouterr().out.splitlines()[1]
    status = "running by process 12 on here since noon (distill train), at epoch 2 of 10"
    assert line.split("\t")[:2] == [run_id, status]


def test_damage_is_listed_and_hides_nothing(store: Path, capsys: Capture) -> None:
    broken = store / "broken-run-abc"
    broken.mkdir()
    (broken / "config.yaml").write_text("[")
    assert main([]) == FINISHED
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert sum("damaged" in line for line in lines) == 1


def test_filters_are_those_of_the_table(store: Path, capsys: Capture) -> None:
    assert main(["loss=kd", "loss.temperature=4", "seed=2"]) == FINISHED
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["loss.temprature=4", "--baseline", "kd"]) == REFUSED
    unknown_option, unknown_key = capsys.readouterr().err.splitlines()
    assert unknown_option.startswith("unknown option --baseline")
    assert unknown_key.endswith("did you mean 'loss.temperature'?")


def test_formats(store: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    main(["--format", "json"])
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["loss"], run["seed"], run["epoch"], run["epochs"]) for run in runs[3:5]] == [
        ("zscore_kd", 8, 3, 10),
        ("zscore_kd", 9, 3, 10),
    ]
    assert runs[0]["accuracy"] == 90.126
    main(["--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["status"] for row in rows].count("finished") == 5
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    main(["--out", str(store.parent / "runs.md")])
    assert (store.parent / "runs.md").read_text().startswith("| id | status |")
    main(["--out", str(store.parent / "runs.html")])
    assert "<title>distill</title>" in (store.parent / "runs.html").read_text()
    capsys.readouterr()
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 7  # one run a line, however narrow the terminal
    assert len({line.index("digits") for line in lines[2:]}) == 1


def test_top5_is_data_always_and_text_where_there_are_many_classes(store: Path, capsys: Capture) -> None:
    add_run(store, dataset="photos", accuracy=70.0, top5=90.5, classes=100)
    assert main(["dataset=photos"]) == FINISHED
    assert "top-5" not in capsys.readouterr().out
    add_run(store, dataset="photos", accuracy=60.0, top5=80.0, classes=1000, seed=2)
    add_run(store, dataset="photos", accuracy=None, seed=3)
    assert main(["dataset=photos", "--size"]) == FINISHED
    header, *lines, _ = capsys.readouterr().out.splitlines()
    assert header.endswith("\taccuracy\ttop-5\tsize")
    assert [line.split("\t")[-2] for line in lines] == ["90.50", "80.00", "-"]
    main(["--format", "json"])
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert {run["top5"] for run in runs if run["dataset"] == "photos"} == {90.5, 80.0, None}
    assert {run["top5"] for run in runs if run["dataset"] != "photos"} == {None}
    assert main(["dataset=digits", "--columns", "id,top5"]) == FINISHED


def test_nothing_to_list_is_one_line(runs_dir: Path, capsys: Capture) -> None:
    assert main([f"runs_dir={runs_dir}"]) == FINISHED
    assert capsys.readouterr().out == f"no runs in {runs_dir}: `distill train` makes one\n"


def test_it_imports_nothing_heavy(store: Path) -> None:
    script = (
        "import sys; from distill.cli import main; code = main(['ls']);"
        "heavy = {'torch', 'hydra', 'omegaconf', 'scipy', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imports {heavy}' if heavy else code)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_sizes_are_a_column_and_a_sum(store: Path, capsys: Capture) -> None:
    teacher = next(store.glob("resnet20-ce-*"))
    table = teacher / "tables" / "0123"
    table.mkdir(parents=True)
    (table / "rows.bin").write_bytes(bytes(2_500_000))
    assert main(["--size"]) == FINISHED
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.endswith("\taccuracy\tsize")
    (line,) = [line for line in lines if "\tresnet20\tnone\t" in line]
    assert line.endswith("\t97.00\t2.5 MB")
    assert sum(line.endswith(" kB") for line in lines) == 6
    assert main(["--size", "--format", "json"]) == FINISHED
    sizes = [run["bytes"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert max(sizes) == sum(path.stat().st_size for path in teacher.rglob("*") if path.is_file())
    assert main(["--size", "--format", "markdown"]) == FINISHED
    assert "2.5 MB together" in capsys.readouterr().out


def test_prune_removes_the_tables_of_the_runs_chosen_and_nothing_else(store: Path, capsys: Capture) -> None:
    tables = []
    for run in sorted(store.iterdir()):
        tables.append(run / "tables" / "0123")
        tables[-1].mkdir(parents=True)
        (tables[-1] / "rows.bin").write_bytes(bytes(10_000))
    others = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file() and path.name != "rows.bin"}
    assert main(["--prune", "student=resnet20"]) == FINISHED
    (gone,) = [table for table in tables if not table.exists()]
    assert capsys.readouterr().out == f"removed {gone}, 10 kB\n10 kB freed\n"
    assert not gone.parent.exists()
    assert gone.parent.parent.name.startswith("resnet20-ce-")
    assert main(["--prune", "student=resnet20"]) == FINISHED
    assert capsys.readouterr().out == "no table to remove\n"

    with (tables[-1] / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["--prune"]) == FINISHED
    assert f"kept {tables[-1]}: a process is building it" in capsys.readouterr().out
    assert [table for table in tables if table.exists()] == [tables[-1]]
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert main(["--prune", "--size"]) == REFUSED
