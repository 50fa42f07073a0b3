"""A cell's overrides are those of `distill train`: Hydra makes of them what the tables compare runs with."""

import re
from pathlib import Path
from typing import Any

import pytest

from distill.config.faults import Refused
from distill.config.preflight import preflight
from distill.config.presets import Presets as Composer
from distill.tables.declared import Declared, Presets
from distill.tables.published import Cell, load, table_names
from distill.tables.values import flatten

TRAINABLE = [name for name in table_names() if name != "imagenet"]
# one column of each table, and the cells that set values of their own
SOME = {
    "ablation": [("weight_0.9", "mean_only"), ("weight_9", "zscore")],
    "cifar100_cross": [("zscore_mlkd", "resnet32x4_shufflenet_v2"), ("mlkd", "wrn_40_2_mobilenet_v2")],
    "cifar100_same": [("zscore_kd", "resnet110_resnet20"), ("cat_kd", "vgg13_vgg8"), ("ce", "vgg13_vgg8")],
    "cifar100_small": [("zscore_kd_w09", "resnet20_resnet8")],
    "cifar100_weight": [("kd_soft", "resnet56_resnet20"), ("zscore_w15", "resnet56_resnet20")],
    "plain_cnn": [("kd", "resnet_1m_plain_cnn")],
    "teacher_size": [("zscore_dkd", "wrn_40_2_wrn_16_2")],
    "vit": [("zscore_kd", "resnet56_deit_tiny")],
}


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


def cells(name: str) -> list[Cell]:
    """The cells of a table that can be trained."""
    return [cell for cell in load(name).cells.values() if cell.overrides]


def facts(node: Any) -> dict[str, Any]:
    """The leaves of a node; null says the same as leaving a key out."""
    return {path: value for path, value in flatten(node or {}).items() if value is not None and value != {}}


def composed(composer: Composer, overrides: tuple[str, ...]) -> Declared:
    """What Hydra makes of the overrides, by the way of `distill train`."""
    parsed, faults = composer.parse(overrides)
    (job,) = composer.jobs(parsed)
    found = composer.compose(job)
    assert faults + found.faults == []
    config = found.config
    teacher = config["teacher"]
    sections = [config[key] for key in ("dataset", "student", "loss", "recipe")]
    return Declared(*sections, teacher["network"], teacher["loss"], teacher["recipe"])


def same(composer: Composer, cell: Cell) -> None:
    ours, hydras = Presets().declared(cell.overrides), composed(composer, cell.overrides)
    for section in Declared.__dataclass_fields__:
        assert facts(getattr(ours, section)) == facts(getattr(hydras, section)), (cell.overrides, section)


@pytest.mark.parametrize("name", TRAINABLE)
def test_presets_resolve_as_hydra_resolves_them(composer: Composer, name: str) -> None:
    for key in SOME[name]:
        same(composer, load(name).cells[key])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_all_cells_resolve_as_hydra_resolves_them(composer: Composer, name: str) -> None:
    for cell in cells(name):
        same(composer, cell)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_every_cell_can_be_trained_but_for_the_data(composer: Composer, name: str, tmp_path: Path) -> None:
    refused = {}
    for cell in cells(name):
        job = [*cell.overrides, "seed=1", f"dataset.root={tmp_path}", "dataset.download=true", f"runs_dir={tmp_path}"]
        try:
            preflight(composer.compose(composer.jobs(composer.parse(job)[0])[0]), composer, may_download=False)
        except Refused as error:
            if not error.needs_download:
                refused[cell.row, cell.column] = error.sentences
    assert refused == {}


@pytest.mark.parametrize("name", TRAINABLE)
def test_our_cells_have_the_published_temperatures_and_weights(name: str) -> None:
    presets = Presets()
    for cell in cells(name):
        loss = presets.declared(cell.overrides).loss
        for key, value in cell.weights.items():
            assert loss.get(key) == value, (cell.overrides, key)
        if cell.temperature is not None:
            assert loss.get("temperature", loss.get("base_temperature")) == cell.temperature, cell.overrides


def test_the_schedules_of_the_longer_rows() -> None:
    presets, table = Presets(), load("cifar100_cross")

    def recipe(row: str, column: str) -> tuple[int, float]:
        node = presets.declared(table.cells[row, column].overrides).recipe
        return node["epochs"], node["optimizer"]["lr"]

    assert recipe("kd", "resnet32x4_wrn_16_2") == (240, 0.05)
    assert recipe("kd", "vgg13_mobilenet_v2") == (240, 0.01)
    assert recipe("zscore_mlkd", "resnet32x4_wrn_16_2") == (480, 0.025)
    assert recipe("zscore_mlkd", "vgg13_mobilenet_v2") == (480, 0.01)
    assert recipe("zscore_mlkd", "wrn_40_2_mobilenet_v2") == (480, 0.005)
    assert recipe("mlkd", "resnet32x4_shufflenet_v2") == (960, 0.01)
    teacher = presets.declared(table.cells["zscore_mlkd", "resnet32x4_wrn_16_2"].overrides).teacher_recipe
    assert (teacher["epochs"], teacher["optimizer"]["lr"]) == (240, 0.05)
    for column in table.columns:
        assert recipe("kd", column.key)[1] == column.learning_rate


def test_teachers_are_trained_as_the_cells_ask_for_them() -> None:
    presets = Presets()
    for name in TRAINABLE:
        table = load(name)
        for column in table.columns:
            own = [cell for cell in cells(name) if cell.column == column.key]
            if own:
                alone = presets.declared((*column.teacher_overrides, "teacher=none"))
                asked = [presets.declared(cell.overrides) for cell in own]
                assert all(each.teacher == alone.student for each in asked)
                assert all(each.teacher_recipe == alone.recipe for each in asked), column.key
                assert all(each.dataset == alone.dataset for each in asked)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("loss=kd",), "loss=kd chooses no dataset: add an experiment, or dataset=NAME"),
        (("experiment=nothing",), "experiment=nothing does not exist: `distill train --help` lists the presets"),
        (
            ("experiment=cifar100/resnet20_resnet8", "loss=zscore_kd_paper"),
            "pair.zscore_temperature has no value here: choose an experiment that fills it",
        ),
    ],
)
def test_what_cannot_be_resolved_is_a_sentence(overrides: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        Presets().declared(overrides)


def test_presets_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("defaults:\n  - /loss/kd@_here_\n  - _self_\ntemperature: 9.0\n")
    found = Presets(tmp_path).declared(("experiment=cifar100/resnet20_resnet8", "loss=mine")).loss
    assert (found["temperature"], found["kd_weight"]) == (9.0, 0.9)


def test_numbers_with_an_exponent_are_numbers_as_in_hydra(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    own = "defaults: [/recipe/cifar@_here_]\noptimizer: {lr: 5e-3, weight_decay: 1.5E-4}\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(own)
    words = ("experiment=cifar100/resnet56_resnet20", "loss=kd", "recipe=mine", "recipe.optimizer.momentum=8e-1")
    optimizer = Presets(tmp_path).declared(words).recipe["optimizer"]
    assert (optimizer["lr"], optimizer["weight_decay"], optimizer["momentum"]) == (0.005, 0.00015, 0.8)


def test_alpha_stands_for_the_two_weights_that_runs_record() -> None:
    pair = ("experiment=cifar100/resnet56_resnet20", "loss=kd")
    presets = Presets()
    loss = presets.declared((*pair, "loss.alpha=0.7")).loss
    assert loss == presets.declared((*pair, "loss.ce_weight=0.3", "loss.kd_weight=0.7")).loss
    assert "alpha" not in loss


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.temperature.high=2", "loss.temperature.high=2 sets a key inside of temperature, which is a value"),
        ("recipe.schedule.milestones=[1,", "recipe.schedule.milestones=[1, cannot be read: "),
        ("loss=broken", "broken.yaml cannot be read: "),
        ("loss=listed", "listed.yaml must hold a mapping, got list"),
    ],
)
def test_what_cannot_be_read_of_a_preset_is_a_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "broken.yaml").write_text("temperature: [1\n")
    (tmp_path / "loss" / "listed.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Presets(tmp_path).declared(("experiment=cifar100/resnet56_resnet20", "loss=kd", override))
