"""The table of our own runs: baselines and differences, rows over several teachers, tunings, and its cost in rows."""

import json
import runpy
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distill.runs.store import RunRecord, scan
from distill.tables.rendering import render
from distill.tables.rows import Row
from distill.tables.table import Table, UnknownBaseline, build, document, notes

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


def test_averaged_weights_have_a_column_of_their_own(runs_dir: Path) -> None:
    add_run(runs_dir, accuracy=90.0, loss="ce")
    recipe = {"recipe_overrides": {"ema": 0.99}}
    add_seeds(runs_dir, [91.0, 92.0], loss="kd", **recipe)
    content = table_of(runs_dir).content()
    header = "averaged weights, last epoch"
    assert header not in content.table(False).headers
    for path in runs_dir.glob("resnet8-kd-*/result.json"):
        result = json.loads(path.read_text())
        result["last"]["ema"] = {"accuracy": result["last"]["accuracy"] + 0.5}
        path.write_text(json.dumps(result))
    content = table_of(runs_dir).content()
    place = content.table(False).headers.index(header)
    assert [row[place] for row in content.table(False).rows] == ["-", "92.00 ± 0.71"]
    ce, kd = content.records()
    assert ce.keys() == kd.keys()
    assert (kd["last.mean"], kd["ema.mean"], kd["ema.values"]) == (91.5, 92.0, [91.5, 92.5])
    assert table_of(runs_dir).rows[1].last.mean == 91.5, "the weights themselves are the headline"


def test_top5_is_data_where_it_was_counted_and_text_where_there_are_many_classes(runs_dir: Path) -> None:
    add_run(runs_dir, accuracy=70.0, loss="ce")
    assert "top5.mean" not in table_of(runs_dir).content().records()[0]
    add_run(runs_dir, accuracy=71.0, top5=90.0, classes=100)
    add_run(runs_dir, accuracy=72.0, top5=91.0, classes=100, seed=2)
    content = table_of(runs_dir).content()
    ce, kd = content.records()
    assert (ce["top5.mean"], kd["top5.mean"], kd["top5.values"]) == (None, 90.5, [90.0, 91.0])
    assert [run["top5"] for run in table_of(runs_dir).of_runs().records()] == [None, 90.0, 91.0]
    assert "top-5, last epoch" not in content.table(False).headers
    add_run(runs_dir, accuracy=60.0, top5=80.0, classes=101, loss="zscore_kd")
    text = table_of(runs_dir).content().table(False)
    place = text.headers.index("top-5, last epoch")
    assert [row[place] for row in text.rows] == ["-", "90.50 ± 0.71", "80.00 (n=1)"]


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


def taught_by(number: int, **facts: Any) -> dict[str, Any]:
    """A teacher of its own weights."""
    return TEACHER | {"run_id": f"{number}" * 12, "weights_sha256": f"{number}" * 64} | facts


def test_the_teacher_is_the_unit_however_many_students_it_has(runs_dir: Path) -> None:
    values = [[90.0, 91.0], [92.0, 92.5, 93.0], [89.0]]
    for number, accuracies in enumerate(values):
        add_seeds(runs_dir, accuracies, loss="kd", teacher=taught_by(number))
    add_seeds(runs_dir, [80.0, 81.0], loss="ce")
    (found,) = json.loads(render(table_of(runs_dir).content(), form="json"))["over_teachers"]
    means = [float(np.mean(each)) for each in values]
    interval = stats.t.interval(0.95, 2, loc=np.mean(means), scale=stats.sem(means))
    assert sorted(found["teachers"].values()) == pytest.approx(sorted(means))
    assert (found["mean"], found["between"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    assert found["within"] == pytest.approx(((1 * 0.5 + 2 * 0.25) / 3) ** 0.5)  # variances weighted by n - 1
    assert (found["low"], found["high"]) == pytest.approx(interval)


def test_the_mean_over_teachers_is_a_note(runs_dir: Path) -> None:
    for number, accuracies in enumerate(([90.0, 91.0], [92.0, 93.0])):
        add_seeds(runs_dir, accuracies, loss="kd", teacher=taught_by(number))
    text = render(table_of(runs_dir).content(), form="terminal")
    assert "\nkd on resnet8 over 2 teachers: 91.50 [78.79, 104.21], between ± 1.41, within ± 0.71\n" in text
    assert text.count("over m teachers: the mean of the teachers' means") == 1


@pytest.mark.parametrize(
    "second",
    [
        {"teacher": taught_by(2, source="table")},
        {"teacher": taught_by(2), "precision": "bf16"},
        {"teacher": taught_by(2), "recipe": "cifar_short"},
        {"teacher": taught_by(2), "teacher_name": "resnet18"},
        {"teacher": taught_by(1), "overrides": {"temperature": 8.0}},
    ],
)
def test_rows_that_differ_in_more_than_the_teachers_weights_stay_apart(runs_dir: Path, second: dict[str, Any]) -> None:
    add_seeds(runs_dir, [90.0, 91.0], loss="kd", teacher=taught_by(1))
    add_seeds(runs_dir, [92.0, 93.0], loss="kd", **second)
    assert table_of(runs_dir).over == []


def test_the_table_is_an_html_page(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0], loss="kd")
    found = render(table_of(runs_dir).content(), form="html")
    assert '<th scope="row">kd</th>' in found
    assert '<td class="number">90.50 ± 0.71</td>' in found
    assert found.startswith("<!doctype html>")


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
    tuned = [note for note in notes(table) if "tuned over" in note]
    assert tuned == [
        "kd on resnet8: tuned over 3 configurations (loss.temperature) on 500 held-out images: "
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


def test_budgets_are_compared_within_a_data_set(runs_dir: Path) -> None:
    for dataset, trials in (("digits", {"kd": 3, "zscore_kd": 2}), ("cifar10", {"kd": 2})):
        for loss in ("kd", "zscore_kd"):
            add_run(runs_dir, loss=loss, dataset=dataset, overrides={"temperature": 2.0})
            for temperature in range(1, 1 + trials.get(loss, 0)):
                add_run(
                    runs_dir, loss=loss, dataset=dataset, overrides={"temperature": float(temperature)}, holdout=500
                )
    found = notes(table_of(runs_dir))
    assert "different tuning budgets on resnet8, digits: kd 3, zscore_kd 2" in found
    assert "not tuned on resnet8, cifar10: zscore_kd" in found
    assert any(note.startswith("kd on resnet8, digits: tuned over 3 configurations") for note in found)
    assert any(note.startswith("kd on resnet8, cifar10: tuned over 2 configurations") for note in found)
    assert not any("not tuned on resnet8, digits" in note for note in found)


def test_without_a_row_on_the_test_set_the_held_out_rows_are_the_table(runs_dir: Path) -> None:
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)})
    table = table_of(runs_dir)
    assert len(table.rows) == 2
    assert table.tunings == ()


def test_runs_of_another_student_are_no_tuning_of_a_row(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd", student="resnet14", seed=1, overrides={"temperature": 2.0})
    tried(runs_dir, "kd", {1.0: (60.0,), 2.0: (61.0,)})
    assert table_of(runs_dir).tunings == ()


def test_a_cell_whose_values_equal_another_preset_is_a_cell_of_its_sweep(runs_dir: Path) -> None:
    for place, temperature in enumerate((1.0, 2.0, 4.0)):
        named = "kd_w09_t2" if temperature == 2 else None  # as older versions named it
        add_run(runs_dir, holdout=500, accuracy=80.0 - place, overrides={"temperature": temperature}, named=named)
    add_run(runs_dir, loss="kd_w9_t2", holdout=500, accuracy=85.0)  # of another weight: not one of these
    add_run(runs_dir, accuracy=90.0, overrides={"temperature": 2.0}, named="kd_w09_t2")
    table = table_of(runs_dir)
    (tuning,) = table.tunings
    assert (tuning.method, tuning.keys, len(tuning.tried)) == ("kd", ("loss.temperature",), 3)
    assert [row.preset for row in table.rows if not row.holdout] == ["kd_w09_t2"]
    assert any(
        note.startswith("kd on resnet8: tuned over 3 configurations (loss.temperature)") for note in notes(table)
    )


def test_a_row_answers_to_every_preset_its_values_equal(runs_dir: Path) -> None:
    add_run(runs_dir, accuracy=90.0, overrides={"temperature": 2.0})
    add_run(runs_dir, accuracy=92.0, loss="zscore_kd")
    table = table_of(runs_dir, baseline="kd_w09_t2")
    assert {row.method: row.is_baseline for row in table.rows} == {"kd (temperature=2)": True, "zscore_kd": False}


def synthetic(number: int) -> list[RunRecord]:
    """Runs of `ce` and, with a teacher each, of `kd`: half as many configurations as runs, unlike in a temperature."""
    return [
        RunRecord(
            path=Path(f"run{place}"),
            run_id=f"{place:012x}",
            status="finished",
            names={
                "dataset": "digits",
                "student": "resnet8",
                "teacher": "resnet20",
                "loss": f"kd temperature={place // 2}",
                "recipe": "demo",
            },
            config={},
            identity={
                "numerics": 1,
                "data": {"train": "a" * 64, "test": "b" * 64, "holdout": 0},
                "student": {"target": "resnet8"},
                "objective": {"target": "SoftTargets", "temperature": place // 2},
                "recipe": {"epochs": 10},
                "seed": place % 2,
                "precision": "fp32",
            },
            result={
                "split": "test",
                "last": {"accuracy": 90.0 + place % 3},
                "best": {"accuracy": 93.0},
                "teacher": TEACHER | {"weights_sha256": f"{place // 8:064x}"[::-1]},
            },
            failure=None,
        )
        for place in range(number)
    ]


def calls(number: int, baseline: str) -> int:
    """How many functions are called to make a table of so many runs."""
    records, count = synthetic(number), 0

    def profile(_: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        text = render(build(records, candidates=records, baseline=baseline).content(), form="terminal")
    finally:
        sys.setprofile(None)
    assert text.count("kd (temperature=") >= number // 2
    return count


@pytest.mark.parametrize("baseline", ["kd", "kd temperature=1"])
def test_the_work_is_about_linear_in_the_runs(baseline: str) -> None:
    calls(40, baseline)  # imports scipy.special
    small, large = calls(100, baseline), calls(800, baseline)
    assert large < 10 * small
