"""Presets are read once for all jobs of a command, and composing one job changes no other."""

from pathlib import Path

import pytest
import yaml

from distill.config.presets import Presets, ReadOnce

JOB = ("dataset=synthetic", "student=resnet8", "loss=kd")


def test_every_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    load = ReadOnce.__bases__[0].load_config

    def counted(self: ReadOnce, config_path: str) -> object:
        parsed.append(config_path)
        return load(self, config_path)

    monkeypatch.setattr(ReadOnce.__bases__[0], "load_config", counted)
    presets = Presets()
    first = presets.compose(JOB)
    before = len(parsed)
    assert presets.compose(JOB).config == first.config
    assert len(parsed) == before == len(set(parsed))


def test_no_job_is_changed_by_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    own = {"seed": 5, "recipe": {"optimizer": {"lr": 0.3}}}
    (tmp_path / "experiment" / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(own))
    presets = Presets(tmp_path)
    plain = presets.compose([*JOB, "experiment=own"]).config
    changed = presets.compose([*JOB, "experiment=own", "++recipe.optimizer.lr=0.7", "++loss.temperature=9", "++seed=2"])
    assert (changed.config["recipe"]["optimizer"]["lr"], changed.config["loss"]["temperature"]) == (0.7, 9)
    assert presets.compose([*JOB, "experiment=own"]).config == plain
    assert (plain["seed"], plain["recipe"]["optimizer"]["lr"], plain["loss"]["temperature"]) == (5, 0.3, 4.0)


def test_another_search_path_is_read_for_its_job_alone(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "elsewhere.yaml").write_text("defaults: [kd]\ntemperature: 7.0\n")
    presets = Presets()
    words = ["dataset=synthetic", "student=resnet8", "loss=elsewhere"]
    found = presets.compose([*words, f"hydra.searchpath=[file://{tmp_path}]"])
    assert found.config["loss"]["temperature"] == 7.0
    assert presets.compose(words).config == {}
