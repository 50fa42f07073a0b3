"""Which finished runs fill a cell, and which never do."""

import runpy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from distill.runs.store import scan
from distill.tables.cells import RESIZE, Facts, MeasuredTable, measure_table
from distill.tables.published import load

STORE = runpy.run_path(str(Path(__file__).with_name("published_store.py")))
add, add_all = STORE["add"], STORE["add_all"]
SAME = load("cifar100_same")
BAD = ("NaN", "Infinity", "-1.0", "7000.0", "null", '"much"')  # accuracies


def measured(runs_dir: Path, name: str = "cifar100_same", seeds: tuple[int, ...] = ()) -> MeasuredTable:
    """The table with the runs of a store."""
    return measure_table(load(name), scan(runs_dir), seeds=seeds)


def filled(found: MeasuredTable) -> dict[tuple[str, str], list[int]]:
    """The number of runs of each row of each cell that has any."""
    return {key: [len(row.runs) for row in rows] for key, rows in found.rows.items() if rows}


def test_a_run_fills_the_cell_that_its_values_say_whatever_it_was_called(runs_dir: Path) -> None:
    add(runs_dir, 71.0, loss="zscore_kd", seed=1)
    add(runs_dir, 71.2, loss="zscore_kd", seed=2, named="zscore_kd_paper")
    add(runs_dir, 71.4, loss="kd", seed=1, temperature=2.0, kd_weight=9.0)  # is kd_w9_t2, of no cell
    add(runs_dir, 70.0, loss="kd", seed=1)
    add(runs_dir, 69.0, loss="ce", seed=1)
    pair = "resnet56_resnet20"
    # resnet20 alone is the student of another pair too
    assert filled(measured(runs_dir)) == {
        ("zscore_kd", pair): [2],
        ("kd", pair): [1],
        ("ce", pair): [1],
        ("ce", "resnet110_resnet20"): [1],
    }


def test_published_weights_are_another_teacher_than_a_trained_network() -> None:
    network = {"_target_": "distill.models.torchvision_network", "name": "resnet34", "weights": None}
    trained = {"network": network, "loss": {"ce_weight": 1.0}, "recipe": {"epochs": 100}}
    absent = {"pretrained": False, "weights": None, "input": "stream", "classes": None, "mean": None, "expected": None}

    def training(teacher: dict[str, Any]) -> dict[str, Any]:
        return dict(Facts.of({"dataset": {"root": "here", "shards": None}, "teacher": teacher}).teacher_training)

    assert (
        training(trained | absent) == training(trained) == {"teacher.loss.ce_weight": 1.0, "teacher.recipe.epochs": 100}
    )
    published = training(trained | absent | {"pretrained": True})
    assert published == {"teacher.pretrained": True}, "its recipe trains nothing"
    assert training(trained | {"pretrained": True, "recipe": {"epochs": 90}, "expected": {"accuracy": 73}}) == published
    assert training(trained | {"pretrained": True, "input": "native"}) != published
    assert training(trained | {"pretrained": "IMAGENET1K_V2"}) != published
    places = ({"root": "here"}, {"root": None, "shards": "there"}, {})
    assert [dict(Facts.of({"dataset": {"size": 224, **place}}).data) for place in places] == [{"dataset.size": 224}] * 3


@pytest.mark.parametrize("target", RESIZE)
def test_the_default_resize_is_the_same_written_out(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    factories = import_module("distill.data.image_folder")
    monkeypatch.setattr(factories, "_photographs", lambda root, shards, preparation, **_: preparation)

    def data(size: int, resize: int | None) -> dict[str, Any]:
        return dict(Facts.of({"dataset": {"_target_": target, "size": size, "resize": resize}}).data)

    for size in (7, 63, 80, 128, 224):
        used = getattr(factories, target.rpartition(".")[2])(size=size).resize
        assert data(size, used) == data(size, None) != data(size, used + 1)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 10}, "recipe.epochs=10, teacher.recipe.epochs=10"),
        ({"teacher_epochs": 10}, "teacher.recipe.epochs=10"),
        ({"teacher": "resnet32"}, "teacher.network._target_=distill.models.resnet32"),
        ({"holdout": 500}, "dataset.holdout=500"),
        ({"given_as": "deadbeef"}, "teacher.run"),
    ],
)
def test_a_run_that_differs_fills_no_cell_and_is_counted(
    runs_dir: Path, change: dict[str, Any], difference: str
) -> None:
    add(runs_dir, 70.0, loss="kd", **change)
    found = measured(runs_dir)
    assert filled(found) == {}
    assert found.elsewhere == {difference: 1}


@pytest.mark.parametrize("change", [{"temperature": 3.0}, {"kd_weight": 1.0}, {"student": "resnet32"}])
def test_a_run_of_another_method_or_student_is_no_matter_of_the_cell(runs_dir: Path, change: dict[str, Any]) -> None:
    add(runs_dir, 70.0, loss="kd", **change)
    found = measured(runs_dir)
    assert ("kd", "resnet56_resnet20") not in filled(found)
    assert "loss" not in " ".join(found.elsewhere)


def test_unlike_rows_are_apart_in_their_cell_and_named(runs_dir: Path) -> None:
    add_all(runs_dir, [70.0, 70.2], loss="kd")
    add_all(runs_dir, [70.4], loss="kd", precision="bf16")
    rows = measured(runs_dir).rows["kd", "resnet56_resnet20"]
    assert [(row.qualifiers, len(row.runs)) for row in rows] == [(("bf16",), 1), (("fp32",), 2)]


def test_a_teacher_given_as_a_run_must_be_the_network_and_has_a_line_of_its_own(runs_dir: Path) -> None:
    right = add(runs_dir, 72.3, loss="ce", student="resnet56", seed=5)
    wrong = add(runs_dir, 71.3, loss="ce", student="resnet32", seed=5)
    add(runs_dir, 70.0, loss="kd")
    add(runs_dir, 70.5, loss="kd", given_as=right, weights="c3d4")
    add(runs_dir, 69.5, loss="kd", given_as=wrong, weights="e5f6")
    rows = measured(runs_dir).rows["kd", "resnet56_resnet20"]
    assert [row.teacher_name for row in rows] == ["resnet56 a1b2", "resnet56 c3d4"]
    assert all(not row.members for row in rows)  # they may have been trained differently


def test_a_teachers_own_precision_is_in_its_name_and_in_the_command(runs_dir: Path) -> None:
    teacher = add(runs_dir, 72.3, loss="ce", student="resnet56", seed=5)
    one = {"loss": "kd", "given_as": teacher, "precision": "bf16"}
    add_all(runs_dir, [70.0, 70.2], **one, teacher_precision="fp32")
    add_all(runs_dir, [70.4], **one)
    found = measured(runs_dir, seeds=(1, 2, 3))
    cell = found.table.cells["kd", "resnet56_resnet20"]
    assert [(row.teacher_name, len(row.runs)) for row in found.rows["kd", "resnet56_resnet20"]] == [
        ("resnet56", 1),
        ("resnet56 fp32", 2),
    ]
    assert f" precision=bf16 teacher.precision=fp32 teacher.run={teacher} seed=3" in found.command(cell)


def test_seeds_of_a_teacher_have_one_more_line_together(runs_dir: Path) -> None:
    for seed, weights in enumerate(("a1b2", "c3d4", "e5f6")):
        add_all(runs_dir, [70.0 + seed, 70.2 + seed], loss="kd", teacher_seed=seed, weights=weights)
    *single, over = measured(runs_dir).rows["kd", "resnet56_resnet20"]
    assert [row.members for row in single] == [()] * 3
    assert (over.teacher_name, len(over.runs), len(over.members)) == ("over 3 teachers", 6, 3)
    assert list(over.by_unit.values()) == pytest.approx([70.1, 71.1, 72.1])


def test_the_ablations_cells_are_told_apart_by_their_weight(runs_dir: Path) -> None:
    pair = {"student": "resnet8x4", "teacher": "resnet32x4"}
    add(runs_dir, 73.0, loss="kd_w9_t2", **pair)
    add(runs_dir, 74.0, loss="kd_w9_t2", kd_weight=3.0, **pair)
    add(runs_dir, 76.0, loss="zscore_kd", kd_weight=0.9, **pair)
    assert filled(measured(runs_dir, "ablation")) == {
        ("weight_9", "plain"): [1],
        ("weight_3", "plain"): [1],
        ("weight_0.9", "zscore"): [1],
    }


def test_which_seeds_are_missing(runs_dir: Path) -> None:
    for seed in (1, 3):
        add(runs_dir, 70.0, loss="kd", seed=seed)
    add(runs_dir, 70.0, loss="kd", seed=2, precision="bf16")
    found = measured(runs_dir, seeds=(1, 2, 3, 4))
    assert found.missing(found.table.cells["kd", "resnet56_resnet20"]) == [2, 4]
    assert found.missing(found.table.cells["dkd", "resnet56_resnet20"]) == [1, 2, 3, 4]


def test_a_damaged_run_and_one_without_a_configuration_are_passed_over(runs_dir: Path) -> None:
    add(runs_dir, 70.0, loss="kd")
    (path,) = runs_dir.iterdir()
    text = (path / "result.json").read_text()
    assert '"accuracy": 70.0' in text
    wrong = ['{"split": "test"}', *(text.replace('"accuracy": 70.0', f'"accuracy": {value}') for value in BAD)]
    for result in wrong:
        (path / "result.json").write_text(result)
        assert filled(measured(runs_dir)) == {}
    (path / "result.json").write_text(text)
    assert filled(measured(runs_dir)) == {("kd", "resnet56_resnet20"): [1]}
