"""What the cells of published tables declare: composed together, each is what `distill train` composes of it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.config import configs_dir
from distill.config.compose import remembered
from distill.config.compose.presets import Presets
from distill.config.faults import Refused
from distill.config.preflight import preflight
from distill.tables.published import Cell, load, table_names
from distill.tables.values import flatten

TRAINABLE = table_names()
PHOTOGRAPHS = ("imagenet", "imagenette_small")  # their teachers are published, and their data are no download of ours
# one column of each table, and the cells that set values of their own
SOME = {
    "ablation": [("weight_0.9", "mean_only"), ("weight_9", "zscore")],
    "cifar100_cross": [("zscore_mlkd", "resnet32x4_shufflenet_v2"), ("mlkd", "wrn_40_2_mobilenet_v2")],
    "cifar100_same": [("zscore_kd", "resnet110_resnet20"), ("cat_kd", "vgg13_vgg8"), ("ce", "vgg13_vgg8")],
    "cifar100_small": [("zscore_kd_w09", "resnet20_resnet8")],
    "cifar100_weight": [("kd_soft", "resnet56_resnet20"), ("zscore_w15", "resnet56_resnet20")],
    "imagenet": [("crd", "resnet50_mobilenet_v1"), ("ctkd", "resnet34_resnet18"), ("ce", "resnet34_resnet18")],
    "imagenette_small": [("zscore_kd_t1", "efficientnet_lite0_mobilenet_v1")],
    "plain_cnn": [("kd", "resnet_1m_plain_cnn")],
    "teacher_size": [("zscore_dkd", "wrn_40_2_wrn_16_2")],
    "vit": [("zscore_kd", "resnet56_deit_tiny")],
}


@pytest.fixture(scope="module")
def composer() -> Presets:
    return Presets()


def cells(name: str) -> list[Cell]:
    """The cells of a table that can be trained."""
    return [cell for cell in load(name).cells.values() if cell.overrides]


def facts(node: Any) -> dict[str, Any]:
    """The leaves of a node; null says the same as leaving a key out."""
    return {path: value for path, value in flatten(node or {}).items() if value is not None and value != {}}


def same(composer: Presets, found: list[Cell]) -> None:
    """Together the cells are what each is when it is composed whole, by the way of `distill train`."""
    together = composer.declared([cell.overrides for cell in found])
    for cell, config in zip(found, together, strict=True):
        parsed, faults = composer.parse(cell.overrides)
        whole = composer.compose(*composer.jobs(parsed))
        assert faults + whole.faults == []
        alpha = whole.config["loss"].pop("alpha", None)
        assert alpha is None
        assert facts(config) == facts(whole.config), cell.overrides


@pytest.mark.parametrize("name", TRAINABLE)
def test_cells_composed_together_are_those_composed_one_by_one(composer: Presets, name: str) -> None:
    same(composer, [load(name).cells[key] for key in SOME[name]])


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_all_cells_composed_together_are_those_composed_one_by_one(composer: Presets, name: str) -> None:
    same(composer, cells(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRAINABLE if name not in PHOTOGRAPHS])
def test_every_cell_can_be_trained_but_for_the_data(composer: Presets, name: str, tmp_path: Path) -> None:
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
def test_our_cells_have_the_published_temperatures_and_weights(composer: Presets, name: str) -> None:
    found = cells(name)
    for cell, config in zip(found, composer.declared([cell.overrides for cell in found]), strict=True):
        loss = config["loss"]
        for key, value in cell.weights.items():
            assert loss.get(key) == value, (cell.overrides, key)
        if cell.temperature is not None:
            assert loss.get("temperature", loss.get("base_temperature")) == cell.temperature, cell.overrides


def test_the_schedules_of_the_longer_rows(composer: Presets) -> None:
    table = load("cifar100_cross")
    keys = [key for key, cell in table.cells.items() if cell.overrides]
    configs = dict(zip(keys, composer.declared([table.cells[key].overrides for key in keys]), strict=True))

    def recipe(row: str, column: str) -> tuple[int, float]:
        node = configs[row, column]["recipe"]
        return node["epochs"], node["optimizer"]["lr"]

    assert recipe("kd", "resnet32x4_wrn_16_2") == (240, 0.05)
    assert recipe("kd", "vgg13_mobilenet_v2") == (240, 0.01)
    assert recipe("zscore_mlkd", "resnet32x4_wrn_16_2") == (480, 0.025)
    assert recipe("zscore_mlkd", "vgg13_mobilenet_v2") == (480, 0.01)
    assert recipe("zscore_mlkd", "wrn_40_2_mobilenet_v2") == (480, 0.005)
    assert recipe("zscore_mlkd", "resnet32x4_shufflenet_v2") == (960, 0.01)
    assert recipe("mlkd", "resnet32x4_shufflenet_v2") == (480, 0.01)
    assert recipe("mlkd", "vgg13_mobilenet_v2") == recipe("mlkd", "resnet50_mobilenet_v2") == (480, 0.0025)
    teacher = configs["zscore_mlkd", "resnet32x4_wrn_16_2"]["teacher"]["recipe"]
    assert (teacher["epochs"], teacher["optimizer"]["lr"]) == (240, 0.05)
    for column in table.columns:
        assert recipe("kd", column.key)[1] == column.learning_rate


def test_the_schedules_and_teachers_of_imagenet(composer: Presets) -> None:
    table = load("imagenet")
    keys = [key for key, cell in table.cells.items() if cell.overrides]
    for (row, column), config in zip(
        keys, composer.declared([table.cells[key].overrides for key in keys]), strict=True
    ):
        recipe, teacher = config["recipe"], config["teacher"]
        epochs, batch, rate = {"crd": (100, 256, 0.1), "ctkd": (120, 256, 0.1)}.get(row, (100, 512, 0.2))
        assert (recipe["epochs"], recipe["reference_epochs"], recipe["batch_size"]) == (epochs, epochs, batch)
        optimizer = recipe["optimizer"]
        assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (rate, 0.9, 1e-4)
        assert [m * epochs for m in recipe["schedule"]["milestones"]] == pytest.approx([30, 60, 90])
        assert config["dataset"]["_target_"] == "distill.data.imagenet"
        assert (config["dataset"]["size"], config["dataset"]["resize"]) == (224, None)  # 256: test_image_folder.py
        assert teacher["pretrained"] is True
        assert teacher["network"]["_target_"] == "distill.models.torchvision_network"
        assert f"{teacher['network']['name']}_{config['student'].get('name', 'mobilenet_v1')}" == column
        assert table.column(column).learning_rate == 0.2


def test_teachers_are_trained_as_the_cells_need_them(composer: Presets) -> None:
    for name in set(TRAINABLE) - set(PHOTOGRAPHS):
        table = load(name)
        for column in table.columns:
            own = [cell for cell in cells(name) if cell.column == column.key]
            if own:
                commands = [(*column.teacher_overrides, "teacher=none"), *(cell.overrides for cell in own)]
                alone, *students = composer.declared(commands)
                assert all(each["teacher"]["network"] == alone["student"] for each in students)
                assert all(each["teacher"]["recipe"] == alone["recipe"] for each in students), column.key
                assert all(each["dataset"] == alone["dataset"] for each in students)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("experiment=nothing",), "experiment=nothing does not exist: there are "),
        (("loss=kdd",), "loss=kdd does not exist: did you mean 'kd'?"),
        (
            ("experiment=cifar100/resnet20_resnet8", "loss=zscore_kd_paper"),
            "loss.temperature takes its value from ${pair.zscore_temperature}, which an experiment fills",
        ),
        (("loss=kd", "recipe.schedule.milestones=[1,"), "'recipe.schedule.milestones=[1,' is not KEY=VALUE"),
        (("loss=kd", "loss.alpha=2"), "loss.alpha must be between 0 and 1, got 2"),
        (("loss=broken",), "a preset is not valid YAML: "),
        (("loss=listed",), "the loss must be a mapping, got [1]: loss=listed"),
    ],
)
def test_what_cannot_be_composed_is_one_sentence(tmp_path: Path, overrides: tuple[str, ...], sentence: str) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "broken.yaml").write_text("temperature: [1\n")
    (tmp_path / "loss" / "listed.yaml").write_text("- 1\n")
    with pytest.raises(Refused) as caught:
        Presets(tmp_path).declared([("loss=ce",), overrides])
    assert caught.value.sentences[0].startswith(sentence)


def test_a_broken_preset_harms_no_other_cell(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "broken.yaml").write_text("temperature: [1\n")
    (config,) = Presets(tmp_path).declared([("loss=kd",)])
    assert config["loss"]["temperature"] == 4.0


def test_an_experiment_may_set_values_of_the_loss(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    own = "# @package _global_\ndefaults: [override /loss: kd]\nloss: {temperature: 7.0}\n"
    (tmp_path / "experiment" / "hot.yaml").write_text(own)
    presets = Presets(tmp_path)
    found = presets.declared([("experiment=hot",), ("experiment=hot", "loss=zscore_kd"), ("loss=zscore_kd",)])
    assert [config["loss"]["temperature"] for config in found] == [7.0, 7.0, 2.0]


def test_presets_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("defaults:\n  - /loss/kd@_here_\n  - _self_\ntemperature: 9.0\n")
    (found,) = Presets(tmp_path).declared([("experiment=cifar100/resnet20_resnet8", "loss=mine")])
    assert (found["loss"]["temperature"], found["loss"]["kd_weight"]) == (9.0, 0.9)


def test_numbers_with_an_exponent_are_numbers_as_in_hydra(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    own = "defaults: [/recipe/cifar@_here_]\noptimizer: {lr: 5e-3, weight_decay: 1.5E-4}\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(own)
    words = ("experiment=cifar100/resnet56_resnet20", "loss=kd", "recipe=mine", "recipe.optimizer.momentum=8e-1")
    (config,) = Presets(tmp_path).declared([words])
    optimizer = config["recipe"]["optimizer"]
    assert (optimizer["lr"], optimizer["weight_decay"], optimizer["momentum"]) == (0.005, 0.00015, 0.8)


def test_alpha_stands_for_the_two_weights_that_runs_record(composer: Presets) -> None:
    pair = ("experiment=cifar100/resnet56_resnet20", "loss=kd")
    commands = [(*pair, "loss.alpha=0.7"), (*pair, "loss.ce_weight=0.3", "loss.kd_weight=0.7")]
    by_alpha, by_weights = composer.declared(commands)
    assert by_alpha == by_weights
    assert "alpha" not in by_alpha["loss"]


def test_cells_are_remembered_until_a_preset_or_the_environment_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands = [("experiment=cifar100/resnet56_resnet20", "loss=kd"), ("loss=dkd",)]
    found = remembered.declared(commands, None)
    (path,) = (tmp_path / "cache" / "distill").iterdir()
    composed = []

    class Watched(Presets):
        def declared(self, commands: Any) -> list[dict[str, Any]]:
            composed.append(commands)
            return super().declared(commands)

    monkeypatch.setattr("distill.config.compose.presets.Presets", Watched)
    assert remembered.declared(commands, None) == found == Presets().declared(commands)
    assert composed == []
    monkeypatch.setenv("DISTILL_RUNS", "elsewhere")  # the presets read it
    assert remembered.declared(commands, None)[0]["runs_dir"] == "elsewhere"
    assert len(composed) == 1
    shutil.copytree(configs_dir(), tmp_path / "configs")
    (tmp_path / "configs" / "loss" / "kd.yaml").write_text("_target_: distill.losses.SoftTargets\n")
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "configs_dir", lambda: tmp_path / "configs")
        remembered.declared(commands, None)
    assert len(composed) == 2
    path.write_text("{")
    assert remembered.declared(commands, None)[0]["loss"] == found[0]["loss"]
    assert len(composed) == 3
    remembered.declared(commands, tmp_path)
    assert len(composed) == 4  # presets of one's own may include any file
