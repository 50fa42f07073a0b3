"""A difference is taken to the row that shares everything but the loss, or not at all."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from distill.runs.store import scan
from distill.tables.rows import Row
from distill.tables.table import Table, UnknownBaseline, build, notes

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_run, add_seeds, TEACHER = FILES["add_run"], FILES["add_seeds"], FILES["TEACHER"]
RETRAINED = TEACHER | {"run_id": "c3d4", "weights_sha256": "c3d4" + "0" * 60}


def table_of(runs_dir: Path, **options: Any) -> Table:
    """The table of a whole store."""
    records = scan(runs_dir)
    return build(records, candidates=records, **options)


def row_of(table: Table, method: str, teacher: str | None = None) -> Row:
    """The one line of that method, and of that teacher where it is given."""
    found = [row for row in table.rows if row.method == method]
    (row,) = [each for each in found if teacher in (None, each.teacher_name)]
    return row


def points(table: Table, method: str, teacher: str | None = None) -> float | None:
    """The difference of a line in percentage points, None where it has none."""
    found = row_of(table, method, teacher).difference
    return None if found is None else pytest.approx(found.points)


def test_ce_is_the_baseline_where_there_is_one(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 92.0], loss="ce")
    add_seeds(runs_dir, [93.0, 94.0], loss="kd")
    table = table_of(runs_dir)
    assert (table.baseline, points(table, "kd")) == ("ce", 2.5)
    assert row_of(table, "ce").is_baseline
    assert not row_of(table, "kd").is_baseline


def test_without_a_baseline_there_is_no_difference(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd")
    add_run(runs_dir, loss="ce", student="resnet20")
    assert table_of(runs_dir).baseline is None


@pytest.mark.parametrize(
    "other", [{"precision": "bf16"}, {"holdout": 100}, {"recipe": "cifar_short"}, {"student": "resnet20"}]
)
def test_rows_that_differ_in_more_than_the_loss_are_not_compared(runs_dir: Path, other: dict[str, Any]) -> None:
    add_run(runs_dir, loss="ce")
    add_run(runs_dir, loss="kd", **other)
    assert table_of(runs_dir).baseline is None


def test_a_baseline_with_a_teacher_has_the_same_one(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", accuracy=90.0)
    add_run(runs_dir, loss="kd", accuracy=80.0, teacher=RETRAINED)
    add_run(runs_dir, loss="zscore_kd", accuracy=91.0)
    add_run(runs_dir, loss="zscore_kd", accuracy=84.0, teacher=RETRAINED)
    table = table_of(runs_dir, baseline="kd")
    assert points(table, "zscore_kd", "resnet20 a1b2") == 1.0
    assert points(table, "zscore_kd", "resnet20 c3d4") == 4.0


def test_a_teacherless_row_between_two_baselines_has_no_difference(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", accuracy=90.0)
    add_run(runs_dir, loss="kd", accuracy=80.0, teacher=RETRAINED)
    add_run(runs_dir, loss="ce", accuracy=70.0)
    table = table_of(runs_dir, baseline="kd")
    assert points(table, "ce") is None
    assert any("kd could be any of several rows: kd with teacher resnet20 a1b2" in note for note in notes(table))


def test_the_unchanged_preset_is_meant_before_a_changed_one(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", accuracy=90.0)
    add_run(runs_dir, loss="kd", accuracy=91.0, overrides={"temperature": 8.0})
    add_run(runs_dir, loss="zscore_kd", accuracy=93.0)
    assert points(table_of(runs_dir, baseline="kd"), "zscore_kd") == 3.0
    assert points(table_of(runs_dir, baseline="kd"), "kd (temperature=8)") == 1.0
    assert points(table_of(runs_dir, baseline="kd (temperature=8)"), "zscore_kd") == 2.0
    assert points(table_of(runs_dir, baseline="kd temperature=8"), "kd (temperature=4)") == -1.0


def test_an_unknown_baseline_names_those_there_are(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd")
    add_run(runs_dir, loss="ce")
    with pytest.raises(UnknownBaseline, match="'kdd' names no row: choose from ce, kd"):
        table_of(runs_dir, baseline="kdd")


def test_a_baseline_left_out_by_a_filter_is_still_compared_with_and_said(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 92.0], loss="ce")
    add_seeds(runs_dir, [93.0, 94.0], loss="kd")
    everything = scan(runs_dir)
    shown = [record for record in everything if record.names["loss"] == "kd"]
    table = build(shown, candidates=everything)
    assert [row.method for row in table.rows] == ["kd"]
    assert points(table, "kd") == 2.5
    assert "baseline ce on resnet8, filtered out: 91.00 ± 1.41" in notes(table)


def test_a_single_run_has_a_difference_without_an_interval(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 92.0], loss="ce")
    add_seeds(runs_dir, [93.0], loss="kd")
    found = row_of(table_of(runs_dir), "kd").difference
    assert found is not None
    assert (found.points, found.welch, found.paired) == (2.0, None, None)
