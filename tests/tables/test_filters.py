"""What a `key=value` filter lets pass."""

import runpy
from pathlib import Path

import pytest

from distill.runs.store import scan
from distill.tables.filters import Selection, read_filters, unknown
from distill.tables.values import dataset_name, flatten, matches, split_list

FILES = runpy.run_path(str(Path(__file__).with_name("store_files.py")))
add_run, add_seeds = FILES["add_run"], FILES["add_seeds"]


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (4.0, "4", True),
        (4, "4.0", True),
        (0.001, "1e-3", True),
        (4.0, "5", False),
        (4.0, "four", False),
        ("kd", "kd", True),
        ("4", "4.0", False),
        (True, "true", True),
        (True, "1", False),
        (1, "true", False),
        (None, "null", True),
        (None, "none", True),
        (None, "0", False),
        ([5, 7], "[5,7]", True),
        ([5, 7], "[5, 7.0]", True),
        ([5, 7], "[5]", False),
        ([], "[]", True),
    ],
)
def test_values_match_as_people_write_them(value: object, text: str, expected: bool) -> None:
    assert matches(value, text) is expected


def test_commas_in_brackets_belong_to_the_value() -> None:
    assert split_list("1,[2,3], kd") == ["1", "[2,3]", "kd"]


def test_leaves_number_only_lists_of_nodes() -> None:
    assert flatten({"a": {"b": [1, 2]}, "c": [{"d": 1}]}) == {"a.b": [1, 2], "c.0.d": 1}


@pytest.fixture
def store(runs_dir: Path) -> Path:
    """Runs of three losses and two students."""
    add_seeds(runs_dir, [90.0, 91.0], loss="ce")
    add_seeds(runs_dir, [92.0, 93.0, 94.0], loss="kd", npz="digits.npz")
    add_seeds(runs_dir, [95.0], loss="kd", overrides={"temperature": 8.0}, precision="bf16")
    add_seeds(runs_dir, [96.0], loss="zscore_kd", student="resnet20", recipe="cifar_short")
    return runs_dir


@pytest.mark.parametrize(
    ("pairs", "count"),
    [
        ({}, 7),
        ({"loss": "kd"}, 4),  # its changed forms too
        ({"loss": "kd temperature=8"}, 1),
        ({"loss": "kd,ce"}, 6),
        ({"dataset": "digits"}, 7),  # wherever the data lie
        ({"teacher": "none"}, 2),
        ({"student": "resnet8", "teacher": "resnet20"}, 4),
        ({"seed": "2,3"}, 3),
        ({"precision": "bf16"}, 1),
        ({"loss.temperature": "2,8"}, 2),
        ({"recipe.epochs": "20"}, 1),
        ({"recipe.milestones": "[12,16]"}, 1),
        ({"loss": "kd", "recipe.epochs": "20"}, 0),
    ],
)
def test_filters(store: Path, pairs: dict[str, str], count: int) -> None:
    selection = Selection(store, tuple(scan(store)), tuple(read_filters(pairs)))
    assert len(selection.chosen) == count


def test_a_filter_on_the_loss_can_be_set_aside(store: Path) -> None:
    pairs = {"loss": "kd", "loss.temperature": "8", "student": "resnet8"}
    selection = Selection(store, tuple(scan(store)), tuple(read_filters(pairs)))
    assert len(selection.chosen) == 1
    assert len(selection.without("loss")) == 6


@pytest.mark.parametrize(
    ("key", "beside"),
    [
        ("loss.temprature", "loss.temperature"),
        ("los.temperature", "loss.temperature"),
        ("loss.divergence", "loss.divergence._target_"),
        ("elsewhere.value", "recipe"),
    ],
)
def test_an_unknown_key_comes_with_those_beside_it(store: Path, key: str, beside: str) -> None:
    ((found, keys),) = unknown(read_filters({key: "1", "seed": "1"}), scan(store))
    assert found.key == key
    assert beside in keys


def test_why_nothing_matches(store: Path) -> None:
    def why(**pairs: str) -> str:
        return Selection(store, tuple(scan(store)), tuple(read_filters(pairs))).nothing()

    assert why(student="resnet18") == (
        f"no run matches student=resnet18: the runs in {store} have student resnet8 or resnet20"
    )
    assert why(student="resnet20", loss="ce") == (
        "no run matches student=resnet20 loss=ce: each filter alone matches some runs"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cifar100", "cifar100"),
        ("cifar100 npz=/data/cifar100.npz limit=500", "cifar100 limit=500"),
        ("arrays npz=/data/my flowers (1).npz mean=[0.5, 0.4, 0.3] std=[0.2, 0.2, 0.2]", "my flowers (1).npz"),
        ("arrays npz=a=b.npz pad=2 holdout=50", "a=b.npz pad=2"),
        ("cifar10 npz=mine.npz mean=[0.5, 0.5, 0.5] std=[0.2, 0.2, 0.2]", "cifar10 mine.npz"),
    ],
)
def test_data_of_ones_own_have_the_name_of_their_file(name: str, shown: str) -> None:
    assert dataset_name(name) == shown


def test_a_swept_value_under_another_preset_belongs_to_its_sweep(runs_dir: Path) -> None:
    add_run(runs_dir, overrides={"temperature": 2.0}, named="kd_w09_t2")  # trained before the sweep
    add_run(runs_dir, loss="kd_w9_t2")
    add_run(runs_dir, loss="zscore_kd")

    def chosen(**pairs: str) -> list[str]:
        selection = Selection(runs_dir, tuple(scan(runs_dir)), tuple(read_filters(pairs)))
        return sorted(record.names["loss"] for record in selection.chosen)

    add_run(runs_dir)
    assert chosen(loss="kd") == ["kd"], "no sweep: two presets"
    add_run(runs_dir, holdout=500, overrides={"temperature": 1.0})
    assert chosen(loss="kd") == ["kd", "kd temperature=1", "kd_w09_t2"]
    assert chosen(loss="kd", **{"loss.temperature": "2"}) == ["kd_w09_t2"]
    assert chosen(loss="kd_w09_t2") == ["kd_w09_t2"]
    assert chosen(loss="kd,zscore_kd") == ["kd", "kd temperature=1", "kd_w09_t2", "zscore_kd"]
