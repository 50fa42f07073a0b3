"""What was tried on held-out images is told under the table, and is no row of it."""

import runpy
from pathlib import Path

import pytest

from distill.runs.store import scan
from distill.tables.table import Table, build, document, notes

add_run = runpy.run_path(str(Path(__file__).with_name("store_files.py")))["add_run"]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def table_of(runs_dir: Path) -> Table:
    records = scan(runs_dir)
    return build(records, candidates=records)


def tried(runs_dir: Path, loss: str, accuracies: dict[float, tuple[float, ...]]) -> None:
    for temperature, values in accuracies.items():
        for seed, accuracy in enumerate(values, start=1):
            add_run(
                runs_dir, loss=loss, seed=seed, overrides={"temperature": temperature}, holdout=500, accuracy=accuracy
            )


def test_the_configurations_tried_are_listed_best_first(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", seed=1, overrides={"temperature": 2.0}, accuracy=71.0)
    tried(runs_dir, "kd", {1.0: (60.0, 62.0), 2.0: (65.0, 66.0), 8.0: (50.0,)})
    table = table_of(runs_dir)
    assert [row.last.mean for row in table.rows] == [71.0]
    (tuning,) = table.tunings
    assert [row.last.mean for row in tuning.tried] == [65.5, 61.0, 50.0]
    said = [note for note in notes(table) if "tuned over" in note]
    assert said == [
        "kd on resnet8: tuned over 3 configurations on 500 held-out images: "
        "kd (temperature=2) 65.50, kd (temperature=1) 61.00, kd (temperature=8) 50.00"
    ]
    (recorded,) = document(table)["tuned"]
    assert [each["accuracy"] for each in recorded["tried"]] == [65.5, 61.0, 50.0]
    assert [len(each["runs"]) for each in recorded["tried"]] == [2, 2, 1]


def test_different_budgets_are_stated(runs_dir: Path) -> None:
    for loss in ("kd", "zscore_kd"):
        add_run(runs_dir, loss=loss, seed=1, overrides={"temperature": 2.0})
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)})
    tried(runs_dir, "zscore_kd", {1.0: (60.0,), 2.0: (61.0,)})
    assert not any("different" in note for note in notes(table_of(runs_dir)))
    tried(runs_dir, "zscore_kd", {3.0: (60.0,)})
    assert "different tuning budgets on resnet8: kd 2, zscore_kd 3" in notes(table_of(runs_dir))


def test_without_a_row_on_the_test_set_they_are_the_table(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)})
    table = table_of(runs_dir)
    assert len(table.rows) == 2
    assert table.tunings == ()


def test_of_another_student_they_are_not_this_rows_tuning(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", student="resnet14", seed=1, overrides={"temperature": 2.0})
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)})
    assert table_of(runs_dir).tunings == ()
