"""Results as data: settings as columns, one row a run, sorting, choosing columns, and files that are refused."""

import csv
import io
import json
import runpy
from pathlib import Path

import pytest

from distill.cli import main
from distill.cli.arguments import FINISHED, REFUSED
from distill.tables.rendering import comma_separated

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_run, add_seeds = FILES["add_run"], FILES["add_seeds"]
Capture = pytest.CaptureFixture[str]


def shown(capsys: Capture, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == FINISHED
    return capsys.readouterr().out


def rows(capsys: Capture, *words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(shown(capsys, *words, "--format", "csv"))))


@pytest.fixture
def store(runs_dir: Path) -> str:
    for temperature, accuracy in ((1.0, 70.0), (2.0, 73.0), (8.0, 71.0)):
        add_seeds(runs_dir, [accuracy, accuracy + 1], overrides={"temperature": temperature})
    add_seeds(runs_dir, [68.0, 69.0], loss="ce")
    return f"runs_dir={runs_dir}"


def test_every_setting_in_which_rows_differ_is_a_column(store: str, capsys: Capture) -> None:
    found = rows(capsys, "table", store)
    assert [(row["method"], row["loss.temperature"], row["n"]) for row in found] == [
        ("ce", "", "2"),
        ("kd (temperature=1)", "1.0", "2"),
        ("kd (temperature=2)", "2.0", "2"),
        ("kd (temperature=8)", "8.0", "2"),
    ]
    assert [row["loss.kd_weight"] for row in found] == ["", "0.9", "0.9", "0.9"]
    assert "recipe.epochs" not in found[0]  # equal in all
    assert "loss.kd_weight" not in rows(capsys, "table", store, "loss=kd")[0]
    document = json.loads(shown(capsys, "table", store, "loss=kd", "--format", "json"))
    assert [row["settings"] for row in document["rows"]] == [{"loss.temperature": t} for t in (1.0, 2.0, 8.0)]


def test_one_row_a_run(store: str, runs_dir: Path, capsys: Capture) -> None:
    add_run(runs_dir, overrides={"temperature": 2.0}, holdout=50, accuracy=60.0)
    add_run(runs_dir, overrides={"temperature": 4.0}, holdout=50, accuracy=61.0)
    found = rows(capsys, "table", store, "--runs", "loss=kd")
    assert len(found) == 8
    assert {(row["loss.temperature"], row["seed"], row["split"], row["last"]) for row in found} >= {
        ("1.0", "1", "test", "70.0"),
        ("2.0", "2", "test", "74.0"),
        ("4.0", "1", "holdout", "61.0"),
    }


def test_rows_are_sorted_and_columns_chosen_in_every_format(store: str, capsys: Capture) -> None:
    words = ("table", store, "loss=kd", "--columns", "loss.temperature,last.mean", "--sort", "-last.mean")
    assert shown(capsys, *words, "--format", "csv") == "loss.temperature,last.mean\n2.0,73.5\n8.0,71.5\n1.0,70.5\n"
    table = shown(capsys, *words, "--format", "markdown")
    assert table.startswith("| loss.temperature | last.mean |\n| ---: | ---: |\n| 2 | 73.5 |\n| 8 | 71.5 |")
    first = json.loads(shown(capsys, *words, "--format", "json"))["rows"][0]
    assert first == {"loss.temperature": 2.0, "last.mean": 73.5}
    sorted_alone = shown(capsys, "table", store, "--sort", "loss.temperature", "--format", "markdown")
    methods = [line.split("|")[1].strip() for line in sorted_alone.splitlines() if line.startswith("| ")][2:]
    assert methods == ["kd (temperature=1)", "kd (temperature=2)", "kd (temperature=8)", "ce"]  # no value: last
    listed = rows(capsys, "ls", store, "--sort", "-accuracy", "--columns", "loss,seed,accuracy")
    assert listed[0] == {"loss": "kd temperature=2", "seed": "2", "accuracy": "74.0"}


def test_sorting_adds_no_column(store: str, capsys: Capture) -> None:
    words = ("table", store, "--format", "latex")
    plain, ordered = shown(capsys, *words), shown(capsys, *words, "--sort", "-last.mean")
    assert "seconds" not in ordered
    assert sorted(plain.splitlines()) == sorted(ordered.splitlines())


def test_an_unknown_column_is_refused(store: str, capsys: Capture) -> None:
    assert main(["table", store, "--sort", "loss.temperatur"]) == REFUSED
    assert "no column is called 'loss.temperatur': did you mean 'loss.temperature'?" in capsys.readouterr().err
    assert main(["ls", store, "--columns", "id,accurracy"]) == REFUSED
    assert "did you mean 'accuracy'?" in capsys.readouterr().err


def test_runs_are_listed_by_their_status(store: str, runs_dir: Path, capsys: Capture) -> None:
    add_run(runs_dir, seed=9, failure={"epoch": 2, "step": 3, "term": "kd"})
    add_run(runs_dir, seed=10, accuracy=None, epochs_done=1)
    assert [row["seed"] for row in rows(capsys, "ls", store, "status=failed")] == ["9"]
    assert [row["seed"] for row in rows(capsys, "ls", store, "status=failed,unfinished")] == ["9", "10"]
    assert "have status failed or finished or unfinished" in shown(capsys, "ls", store, "status=lost")


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet", "t.cvs"])
def test_no_text_is_written_under_the_name_of_another_format(
    store: str, tmp_path: Path, capsys: Capture, name: str
) -> None:
    assert main(["table", store, "--out", str(tmp_path / name)]) == REFUSED
    assert "end it in .txt, .md, .tex, .csv, .json, .html" in capsys.readouterr().err
    if name != "t.cvs":
        assert main(["table", store, "--format", "csv", "--out", str(tmp_path / name)]) == REFUSED
    assert not (tmp_path / name).exists()


def test_names_that_a_spreadsheet_would_compute_are_quoted() -> None:
    text = comma_separated([{"name": "=1+1", "other": "@x", "value": -1.5, "plain": "a=b"}])
    assert text.splitlines()[1] == "'=1+1,'@x,-1.5,a=b"
    text = comma_separated([{"names": ["=1+1", "b"], "mixed": [-1, "+1"], "values": [-1.5, 2], "empty": []}])
    assert text.splitlines()[1] == "'=1+1 b,'-1 +1,-1.5 2,"


def test_methods_without_a_tuning_are_named(runs_dir: Path, capsys: Capture) -> None:
    add_run(runs_dir, loss="ce")
    add_run(runs_dir, overrides={"temperature": 2.0})
    for temperature in (1.0, 2.0):
        add_run(runs_dir, overrides={"temperature": temperature}, holdout=50, accuracy=60.0)
    text = shown(capsys, "table", f"runs_dir={runs_dir}")
    assert "kd on resnet8: tuned over 2 configurations (loss.temperature) on 50 held-out images" in text
    assert "not tuned on resnet8: ce" in text
