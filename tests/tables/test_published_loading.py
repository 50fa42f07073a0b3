"""A table's file that says what no table can: one sentence that names the place, and never a table made of it."""

import re
from pathlib import Path

import pytest

from distill.tables.declared import Presets
from distill.tables.published import DamagedTable, load

SOUND = """
title: Mine
source: me
dataset: cifar100
recipe: cifar
baseline: {row: kd}
columns:
  pair: {experiment: cifar100/resnet56_resnet20, teacher: resnet56, student: resnet20, teacher_accuracy: 72.0}
rows:
  kd: {label: KD, preset: kd, published: [70.6], epochs: last, runs: 5, temperature: 4, weights: {kd_weight: 0.9}}
  ours: {label: Ours, preset: zscore_kd, published: [71.4], overrides: [loss.temperature=3]}
"""
DAMAGED = [
    ("[70.6]", "[.nan]", "published of row kd must be a number from 0 to 100, got nan"),
    ("[70.6]", "[706]", "published of row kd must be a number from 0 to 100, got 706"),
    ("[70.6]", "[best]", "published of row kd must be a number from 0 to 100, got 'best'"),
    ("[70.6]", "70.6", "published of row kd must be a list with a value (or null) for each column, got 70.6"),
    (
        "runs: 5",
        "runs: five",
        "runs of row kd must be a whole number from 1 on, got 'five': leave it out if",
    ),
    ("runs: 5", "runs: 0", "runs of row kd must be a whole number from 1 on, got 0"),
    ("runs: 5", "cells: {pair: {runs: -3}}", "runs of cell kd, pair must be a whole number from 1 on, got -3"),
    ("runs: 5", "cells: [pair]", "cells of row kd must be a mapping by column, got ['pair']"),
    ("runs: 5", "deviation: -0.2", "deviation of row kd must be a number from 0 to 100, got -0.2"),
    ("temperature: 4", "temperature: hot", "temperature of row kd must be a number from 0 on, got 'hot'"),
    ("{kd_weight: 0.9}", "0.9", "weights of row kd must be a mapping of names to numbers, got 0.9"),
    ("kd_weight: 0.9", "kd_weight: much", "weights of row kd, kd_weight, must be a number from 0 on, got 'much'"),
    ("accuracy: 72.0", "accuracy: yes", "teacher_accuracy of column pair must be a number from 0 to 100, got True"),
    ("label: KD", "label: 9", "label of row kd must be text, got 9: put it in quotes"),
    ("  ours:", "  0.9:", "row 0.9 is not a name: put it in quotes"),
    ("  pair:", "  1:", "column 1 is not a name: put it in quotes"),
    ("[loss.temperature=3]", "loss.temperature=3", "overrides of row ours must be a list of KEY=VALUE, got 'loss.temp"),
    ("[loss.temperature=3]", "[loss.temperature]", "overrides of row ours must be a list of KEY=VALUE, got ['loss.t"),
    ("preset: kd,", "preset: kd, note: {a: b},", "note of row kd must be a sentence or a list of them, got {'a': 'b'}"),
    ("{row: kd}", "{row: kdd}", "baseline names the row 'kdd', which the table does not have"),
    ("{row: kd}", "{column: pare}", "baseline names the column 'pare', which the table does not have"),
    (SOUND[SOUND.index("rows:") :], "rows: [kd]\n", "rows must be a mapping with at least one row, got ['kd']"),
    (SOUND[SOUND.index("rows:") :], "rows: {}\n", "rows must be a mapping with at least one row, got {}"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """`table/mine.yaml` in a folder of the user's."""
    (tmp_path / "table").mkdir()
    path = tmp_path / "table" / "mine.yaml"
    path.write_text(SOUND)
    return path


@pytest.mark.parametrize(("there", "instead", "sentence"), DAMAGED)
def test_a_value_of_another_kind_is_one_sentence(file: Path, there: str, instead: str, sentence: str) -> None:
    assert load("mine", config_dir=file.parents[1]).cells["kd", "pair"].runs == 5
    assert there in SOUND
    file.write_text(SOUND.replace(there, instead))
    with pytest.raises(DamagedTable) as caught:
        load("mine", config_dir=file.parents[1])
    assert str(caught.value).startswith(f"{file}: {sentence}")


def test_numbers_with_an_exponent_are_numbers_as_in_hydra(file: Path) -> None:
    file.write_text(SOUND.replace("temperature: 4", "temperature: 4e0"))
    assert load("mine", config_dir=file.parents[1]).cells["kd", "pair"].temperature == 4.0
    (file.parents[1] / "recipe").mkdir()
    own = "defaults: [/recipe/cifar@_here_]\noptimizer: {lr: 5e-3, weight_decay: 1.5E-4}\n"
    (file.parents[1] / "recipe" / "mine.yaml").write_text(own)
    words = ("experiment=cifar100/resnet56_resnet20", "loss=kd", "recipe=mine", "recipe.optimizer.momentum=8e-1")
    optimizer = Presets(file.parents[1]).declared(words).recipe["optimizer"]
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
