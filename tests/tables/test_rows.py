"""Which runs are seeds of one row, which are not, and what each row is called."""

import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.runs.store import scan
from distill.tables.table import Table, build, heading, notes

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_run, add_seeds, TEACHER = FILES["add_run"], FILES["add_seeds"], FILES["TEACHER"]
RETRAINED = TEACHER | {"weights_sha256": "c3d4" + "0" * 60}


def table_of(runs_dir: Path, **options: Any) -> Table:
    """The table of a whole store."""
    records = scan(runs_dir)
    return build(records, candidates=records, **options)


def names(table: Table) -> list[tuple[str, str, int]]:
    """Method, teacher and n of every row."""
    return [(row.method, row.teacher_name, row.last.n) for row in table.rows]


def test_seeds_of_one_configuration_are_one_row(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0, 95.0], loss="kd")
    add_seeds(runs_dir, [80.0], loss="ce")
    table = table_of(runs_dir)
    assert names(table) == [("ce", "none", 1), ("kd", "resnet20", 3)]
    assert table.rows[1].last.mean == pytest.approx(92.0)
    assert [run.seed for run in table.rows[1].runs] == [1, 2, 3]


def test_teachers_of_unlike_weights_are_unlike_rows(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0])
    add_run(runs_dir, accuracy=95.0, seed=3, teacher=RETRAINED)
    assert names(table_of(runs_dir)) == [("kd", "resnet20 a1b2", 2), ("kd", "resnet20 c3d4", 1)]


def test_unlike_teachers_are_named_even_where_the_losses_differ(runs_dir: Path) -> None:
    add_run(runs_dir, loss="kd")
    add_run(runs_dir, loss="zscore_kd", teacher=RETRAINED)
    assert names(table_of(runs_dir)) == [("kd", "resnet20 a1b2", 1), ("zscore_kd", "resnet20 c3d4", 1)]


def test_live_and_table_teachers_are_told_apart(runs_dir: Path) -> None:
    add_run(runs_dir, seed=1)
    add_run(runs_dir, seed=2, teacher=TEACHER | {"source": "table"})
    assert names(table_of(runs_dir)) == [("kd", "resnet20 live", 1), ("kd", "resnet20 table", 1)]


def test_digests_are_shown_as_long_as_they_need_to_be(runs_dir: Path) -> None:
    add_run(runs_dir)
    add_run(runs_dir, seed=2, teacher=TEACHER | {"weights_sha256": "a1b200f" + "0" * 57})
    teachers = {teacher for _, teacher, _ in names(table_of(runs_dir))}
    assert teachers == {"resnet20 a1b2000", "resnet20 a1b200f"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"precision": "bf16"}, ["kd (bf16)", "kd (fp32)"]),
        ({"holdout": 100}, ["kd", "kd (holdout 100)"]),
        ({"recipe": "cifar_short"}, ["kd (cifar_short)", "kd (demo)"]),
        ({"overrides": {"temperature": 8.0}}, ["kd (temperature=4)", "kd (temperature=8)"]),
        ({"recipe_overrides": {"epochs": 5}}, ["kd (demo epochs=5)", "kd (demo)"]),
    ],
)
def test_what_differs_is_said_and_not_pooled(runs_dir: Path, other: dict[str, Any], expected: list[str]) -> None:
    add_run(runs_dir, seed=1)
    add_run(runs_dir, seed=2, **other)
    table = table_of(runs_dir)
    assert [method for method, _, _ in names(table)] == expected
    assert {n for _, _, n in names(table)} == {1}


def test_a_precision_is_said_on_every_row_once_it_differs(runs_dir: Path) -> None:
    add_run(runs_dir, loss="ce")
    add_run(runs_dir, loss="kd", precision="bf16")
    assert [method for method, _, _ in names(table_of(runs_dir))] == ["ce (fp32)", "kd (bf16)"]


def test_a_changed_preset_is_never_called_by_the_presets_name_alone(runs_dir: Path) -> None:
    add_run(runs_dir, overrides={"temperature": 3.0, "kd_weight": 2.0})
    assert names(table_of(runs_dir)) == [("kd (temperature=3, kd_weight=2)", "resnet20", 1)]


def test_the_same_data_in_another_place_are_pooled(runs_dir: Path) -> None:
    add_run(runs_dir, seed=1)
    add_run(runs_dir, seed=2, npz="elsewhere/digits.npz")
    add_run(runs_dir, loss="ce", npz="elsewhere/digits.npz")
    table = table_of(runs_dir)
    assert names(table) == [("ce", "none", 1), ("kd", "resnet20", 2)]
    assert heading(table).startswith("dataset digits, student resnet8")


def test_less_data_is_another_row(runs_dir: Path) -> None:
    add_run(runs_dir, seed=1)
    add_run(runs_dir, seed=2, limit=100)
    assert len(table_of(runs_dir).rows) == 2


def test_a_copied_run_is_no_second_seed(runs_dir: Path) -> None:
    add_seeds(runs_dir, [90.0, 91.0])
    first = next(runs_dir.iterdir())
    shutil.copytree(first, runs_dir / f"copy-of-{first.name}")
    assert names(table_of(runs_dir)) == [("kd", "resnet20", 2)]


def test_teachers_are_rows_before_their_students(runs_dir: Path) -> None:
    taught_by = add_run(runs_dir, student="wide", loss="ce", seed=0, accuracy=97.0)
    add_run(runs_dir, student="resnet8", teacher=TEACHER | {"run_id": taught_by}, teacher_name="wide")
    rows = [row.student for row in table_of(runs_dir).rows]
    assert rows == ["wide", "resnet8"]


def test_rows_count_as_people_do(runs_dir: Path) -> None:
    for temperature in (16.0, 2.0, 8.0):
        add_run(runs_dir, overrides={"temperature": temperature})
    methods = [method for method, _, _ in names(table_of(runs_dir))]
    assert methods == ["kd (temperature=2)", "kd (temperature=8)", "kd (temperature=16)"]


def test_equal_mathematics_is_called_a_replicate(runs_dir: Path) -> None:
    add_run(runs_dir, loss="ablation/mean_only")
    assert names(table_of(runs_dir))[0][0] == "ablation/mean_only (replicate of kd_w9_t2)"


def test_a_replicate_with_other_settings_is_none(runs_dir: Path) -> None:
    add_run(runs_dir, loss="ablation/mean_only", overrides={"temperature": 5.0})
    assert names(table_of(runs_dir))[0][0] == "ablation/mean_only (temperature=5)"


def test_a_preset_of_ones_own_by_the_name_of_a_replicate_is_none(runs_dir: Path) -> None:
    add_run(runs_dir, loss="ablation/mean_only", overrides={"kd_weight": 1.0}, named="ablation/mean_only")
    assert names(table_of(runs_dir))[0][0] == "ablation/mean_only"


def test_runs_that_are_not_finished_are_counted(runs_dir: Path) -> None:
    add_run(runs_dir)
    add_run(runs_dir, seed=2, accuracy=None)
    add_run(runs_dir, seed=3, failure={"epoch": 1, "step": 2, "term": "kd", "message": "nan"})
    broken = add_run(runs_dir, seed=4)
    next(runs_dir.glob(f"*{broken}")).joinpath("result.json").write_text('{"split": "test"}')
    assert table_of(runs_dir).not_shown == "1 failed, 1 unfinished, 1 damaged"


def test_rows_that_mix_sources_are_flagged(runs_dir: Path) -> None:
    add_run(runs_dir, seed=1)
    add_run(runs_dir, loss="ce")
    add_run(runs_dir, seed=1, dataset="cifar100", teacher=TEACHER | {"source": "table"})
    assert not any("mix sources" in note for note in notes(table_of(runs_dir)))
    add_run(runs_dir, loss="zscore_kd", teacher=TEACHER | {"source": "table"})
    (flag,) = [note for note in notes(table_of(runs_dir)) if "mix sources" in note]
    assert flag.startswith(
        "the rows of resnet8 mix sources: in some the teacher ran on every batch, others read a table"
    )
