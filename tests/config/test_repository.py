"""Presets are read once for all jobs of a command, which Hydra composes without its own node where it can."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config.compose import composer
from distill.config.compose.composer import ReadOnce
from distill.config.compose.presets import Presets

JOB = ("dataset=synthetic", "student=resnet8", "loss=kd")


def test_every_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    load = ReadOnce.__bases__[0].load_config

    def counted(self: ReadOnce, config_path: str) -> object:
        parsed.append(config_path)
        return load(self, config_path)

    monkeypatch.setattr(ReadOnce.__bases__[0], "load_config", counted)
    presets = Presets(tmp_path)
    first = presets.compose(JOB)
    before = len(parsed)
    assert before
    assert presets.compose(JOB).config == first.config
    assert len(parsed) == before == len(set(parsed))


def test_shipped_presets_are_parsed_once_for_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Presets().compose(JOB)
    monkeypatch.setattr(ReadOnce.__bases__[0], "load_config", lambda *_: pytest.fail("parsed again"))
    assert Presets().compose(JOB) == first


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


def test_jobs_that_differ_in_values_alone_are_combined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    combined: list[list[str]] = []
    combine = composer.create_defaults_list

    def counted(**given: Any) -> object:
        combined.append([override.input_line for override in given["overrides_list"]])
        return combine(**given)

    monkeypatch.setattr(composer, "create_defaults_list", counted)
    words = [*JOB, "+loss@other=ce"]
    presets = Presets(tmp_path)
    jobs = [[], ["++seed=2"], ["++loss.temperature=9", "++teacher.network={depth: 8}"], ["~teacher.recipe.schedule"]]
    found = [presets.compose([*words, *job]) for job in jobs]
    assert combined == [words]
    assert [job.config["seed"] for job in found] == [1, 2, 1, 1]
    assert ["schedule" in job.config["teacher"]["recipe"] for job in found] == [True, True, True, False]
    for words, job in zip([[*words, *job] for job in jobs], found, strict=True):
        whole = presets.composer.whole(words)
        assert job == presets.composer.from_hydra(whole, whole.hydra, words)


def test_another_search_path_is_read_for_its_job_alone(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "elsewhere.yaml").write_text("defaults: [kd]\ntemperature: 7.0\n")
    presets = Presets()
    words = ["dataset=synthetic", "student=resnet8", "loss=elsewhere"]
    found = presets.compose([*words, f"hydra.searchpath=[file://{tmp_path}]"])
    assert found.config["loss"]["temperature"] == 7.0
    assert presets.compose(words).config == {}


@pytest.mark.parametrize(
    ("words", "with_node"),
    [
        ((), 0),
        (
            (
                "experiment=cifar100/resnet56_resnet20",
                "loss=zscore_kd_paper",
                "++seed=3",
                "recipe@teacher.recipe=cifar",
            ),
            0,
        ),
        (("~teacher.recipe.schedule", "+loss@other=ce", "hydra/launcher=cohort", "hydra.launcher.size=3"), 1),
        (("experiment=sized",), 1),  # a preset sets a value of the node
        (("sweep=demo",), 1),  # a preset chooses a launcher
        (("loss=zscore_kd_paper",), 1),  # without an experiment it has no temperature
    ],
)
def test_a_job_is_what_it_is_with_hydras_own_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], with_node: int
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "sized.yaml").write_text("# @package _global_\nhydra: {sweeper: {max_batch_size: 2}}\n")
    composer, composed = Presets(tmp_path).composer, []
    compose_whole = composer.whole
    monkeypatch.setattr(composer, "whole", lambda words: composed.append(words) or compose_whole(words))
    found = [composer.job(words)[1] for _ in range(2)]
    whole = compose_whole(words)
    assert found == [composer.from_hydra(whole, whole.hydra, words)] * 2
    assert len(composed) == (with_node if "hydra/launcher=cohort" in words else 2 * with_node)
