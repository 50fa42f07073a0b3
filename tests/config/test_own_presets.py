"""A user's presets in --config-dir: used like ours, and checked like ours."""

import pytest

from distill.cli import main
from distill.cli.arguments import REFUSED
from distill.config import configs_dir, preset_files

HEAD = "# @package _global_\n"


def test_they_stand_beside_the_shipped_ones(command, presets_of) -> None:
    own = presets_of(
        {
            "loss/mine.yaml": "defaults: [kd]\ntemperature: 3.0\n",
            "experiment/pair.yaml": HEAD + "defaults:\n  - override /loss: mine\nrecipe:\n  epochs: 2\n",
        }
    )
    plan = command.plan(*command.tiny, "experiment=pair", config_dir=own)
    assert (plan.names["loss"], plan.config["loss"]["temperature"], plan.recipe.epochs) == ("mine", 3.0, 2)
    assert plan.run_id == command.plan(*command.tiny, "loss.temperature=3", "recipe.epochs=2").run_id
    assert command.plan(*command.tiny, "loss=zscore_kd", config_dir=own).names["loss"] == "zscore_kd"


def test_the_shipped_file_of_a_name_counts(command, presets_of) -> None:
    own = presets_of({"loss/kd.yaml": "defaults: [ce]\n", "loss/deep/mine.yaml": "defaults: [/loss/kd]\n"})
    files = preset_files("loss", own)
    assert (files["kd"], files["deep/mine"]) == (configs_dir() / "loss/kd.yaml", own / "loss/deep/mine.yaml")
    assert set(files) - set(preset_files("loss", None)) == {"deep/mine"}
    kd = command.plan(*command.tiny, "loss=kd")
    assert command.plan(*command.tiny, "loss=kd", config_dir=own).run_id == kd.run_id


def test_a_file_that_hydra_cannot_compose_is_no_preset(command, presets_of) -> None:
    own = presets_of({"loss/mine.yml": "defaults: [kd]\n"})
    assert "mine" not in preset_files("loss", own)
    with pytest.warns(UserWarning, match="yml"):
        (sentence,) = command.refused(*command.tiny, "loss=mine", config_dir=own)
    assert sentence.startswith("loss=mine does not exist: ")
    assert "'mine'" not in sentence


COSINE = "distill.training.Cosine"


def test_a_replaced_target_drops_the_arguments_that_it_does_not_take(command, presets_of) -> None:
    own = presets_of(
        {
            "recipe/waves.yaml": f"defaults: [demo]\nschedule:\n  _target_: {COSINE}\n  final: 0.1\n",
            "recipe/typo.yaml": f"defaults: [demo]\nschedule:\n  _target_: {COSINE}\n  finale: 0.1\n",
            "loss/labels.yaml": "defaults: [kd]\n_target_: distill.losses.CrossEntropy\nce_weight: 1.0\n",
        }
    )
    typed = [f"recipe.schedule._target_={COSINE}", "recipe.schedule.final=0.1"]
    alone = [*command.tiny, "loss=ce"]
    complete = command.plan(*alone, *typed, "~recipe.schedule.milestones", "~recipe.schedule.gamma")
    assert complete.recipe.schedule(6, 6) < 0.2
    assert command.plan(*alone, *typed).run_id == complete.run_id
    assert command.plan(*alone, "recipe=waves", config_dir=own).run_id == complete.run_id
    assert command.plan(*command.tiny, "loss=labels", config_dir=own).run_id == command.plan(*alone).run_id
    wrong = f"recipe.schedule.gamma is not a key of {COSINE}: there are final, warmup, warmup_start"
    assert command.refused(*alone, *typed, "recipe.schedule.gamma=0.1") == [wrong]
    assert f"recipe.schedule.finale is not a key of {COSINE}: did you mean 'final'?" in command.refused(
        *alone, "recipe=typo", config_dir=own
    )
    adam = command.plan(*alone, "recipe.optimizer._target_=torch.optim.AdamW").config["recipe"]["optimizer"]
    assert (adam["lr"], adam["weight_decay"], adam.get("momentum")) == (0.05, 0.0005, None)


def test_a_schedule_may_be_a_function(command, folder, monkeypatch) -> None:
    (folder / "ramps.py").write_text(
        "def down(epoch, epochs, *, floor=0.5):\n    return max(floor, 1 - epoch / epochs)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    words = [*command.tiny, "loss=ce", "recipe.schedule._target_=ramps.down", "recipe.schedule.floor=0.2"]
    assert command.plan(*words, "recipe.schedule._partial_=true").recipe.schedule(6, 6) == 0.2
    assert command.refused(*words)[0] == (
        "recipe.schedule.epoch is missing: ramps.down needs it; or set recipe.schedule._partial_=true, "
        "if training passes it"
    )


WRONG = {
    "misspelt keys": (
        HEAD + "seed: many\nloss:\n  temprature: 3\nrecipe:\n  epoch: 4\n  optimizer:\n    lr: fast\n",
        [
            "seed must be an integer, got 'many'",
            "loss.temprature is not a key of distill.losses.SoftTargets: did you mean 'temperature'?",
            "recipe.epoch is not a key of distill.training.Recipe: did you mean 'epochs'?",
            "recipe.optimizer.lr must be a number, got 'fast'",
        ],
    ),
    "a new root key": (HEAD + "temperature: 3\n", ["temperature is not a key"]),
    "a misspelt option": (
        HEAD + "defaults:\n  - override /loss: zscor_kd\n",
        ["loss=zscor_kd does not exist: did you mean 'zscore_kd'?"],
    ),
    "a misspelt group": (
        HEAD + "defaults:\n  - override /los: kd\n",
        ["experiment/wrong overrides los, which is not a group: did you mean 'loss'?"],
    ),
    "a value out of range": (
        HEAD + "teacher:\n  recipe:\n    epochs: 0\n",
        ["epochs must be >= 1, got 0: set teacher.recipe.epochs"],
    ),
    "no header": ("seed: 3\n", ["the first line of an experiment's file must be '# @package _global_'"]),
    "no YAML": (HEAD + "loss: [\n", ["a preset is not valid YAML: while parsing"]),
    "an unknown interpolation": (
        HEAD + "seed: ${engine.nothing}\n",
        ["seed: Interpolation key 'engine.nothing' not found"],
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_experiment(command, presets_of, name: str) -> None:
    text, expected = WRONG[name]
    own = presets_of({"experiment/wrong.yaml": text})
    sentences = command.refused(*command.tiny, "experiment=wrong", config_dir=own)
    assert len(sentences) == len(expected)
    for start in expected:
        assert any(sentence.startswith(start) for sentence in sentences), (start, sentences)


def test_a_preset_that_cannot_be_composed_hides_no_other_fault(command, presets_of) -> None:
    own = presets_of({"experiment/wrong.yaml": HEAD + "defaults:\n  - override /loss: zscor_kd\n"})
    sentences = command.refused("experiment=wrong", "seed=x", "loss.beta=1", "engine.thread=1", config_dir=own)
    assert [sentence.split()[0] for sentence in sentences] == ["loss=zscor_kd", "seed", "engine.thread"]


def test_a_nested_group(command, presets_of) -> None:
    own = presets_of(
        {
            "loss/mine/warm.yaml": "defaults: [/loss/kd@_here_]\ntemperature: 3.0\n",
            "loss/mine/wrong.yaml": "defaults: [/loss/kd@_here_]\ndivergence:\n  tempreture: 1\nce_wieght: 1\n",
            "loss/mine/lost.yaml": "defaults: [kdd]\n",
        }
    )
    assert command.plan(*command.tiny, "loss=mine/warm", config_dir=own).names["loss"] == "mine/warm"
    wrong = command.refused(*command.tiny, "loss=mine/wrong", config_dir=own)
    assert [sentence.partition(" ")[0] for sentence in wrong] == ["loss.divergence.tempreture", "loss.ce_wieght"]
    assert "did you mean 'temperature'?" in wrong[0]
    assert "did you mean 'ce_weight'?" in wrong[1]
    (lost,) = command.refused(*command.tiny, "loss=mine/lost", config_dir=own)
    assert lost == "loss=kdd does not exist: did you mean 'kd'?"
    (misspelt,) = command.refused(*command.tiny, "loss=mine/wram", config_dir=own)
    assert misspelt == "loss=mine/wram does not exist: did you mean 'mine/warm'?"


def test_a_preset_that_includes_itself(command, presets_of) -> None:
    own = presets_of({"loss/mine.yaml": "defaults: [{/loss@_here_: kd}]\n"})  # `loss=mine` holds for it too
    (sentence,) = command.refused(*command.tiny, "loss=mine", config_dir=own)
    assert sentence.startswith("a preset includes itself")


def test_a_wrong_folder_is_one_sentence(tmp_path, capsys) -> None:
    folder = tmp_path / "x"
    assert main(["train", "--config-dir", str(folder), "loss=mine"]) == REFUSED
    assert capsys.readouterr().err == f"--config-dir {str(folder)!r} is not a folder: name the one with your presets\n"
