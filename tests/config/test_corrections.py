"""What people type who come from other tools: each mistake has one sentence with what to type instead."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from distill.config.faults import CORRECTIONS, correction, misplaced, nearest


def test_keys_that_stand_elsewhere(command) -> None:
    typed = "lr=0.1 epochs=5 batch_size=128 temperature=4 alpha=0.5 device=cpu weight_decay=0 workers=8 resume=true T=2"
    assert command.refused(*typed.split(), "optimizer.momentum=0", "seeed=3") == [
        "lr is not a key: write recipe.optimizer.lr=0.1",
        "epochs is not a key: write recipe.epochs=5",
        "batch_size is not a key: write recipe.batch_size=128",
        "temperature is not a key: write loss.temperature=4",
        "alpha is not a key: write loss.alpha=0.5",
        "device is not a key: write engine.device=cpu",
        "weight_decay is not a key: write recipe.optimizer.weight_decay=0",
        "workers is not a key: small images lie in memory and need no workers, so leave it out",
        "resume is not a key: an unfinished run is resumed when its command is typed again, so leave it out",
        "T is not a key: write loss.temperature=2",
        "optimizer is not a key: write recipe.optimizer.KEY=VALUE",
        "seeed is not a key: did you mean 'seed'?",
    ]


def test_the_name_of_an_optimizer_leads_to_its_class(command) -> None:
    assert command.refused("optimizer=adam") == [
        "optimizer is not a key: write recipe.optimizer._target_=CLASS, which is torch.optim.SGD here"
    ]


def test_every_correction_is_a_sentence() -> None:
    for typed in CORRECTIONS:
        sentence = correction(typed, "4")
        assert sentence is not None
        assert sentence.startswith(f"{typed} is ") or sentence.startswith(f"{typed} has no effect")
        assert "{" not in sentence
    assert correction("loss") is None
    assert misplaced("lr", 1, {"teacher": {"lr": 2}, "a": {"b": {"lr": 3}}}) == "lr is not a key: write a.b.lr=1"
    assert nearest("CIFAR100", ["cifar10", "cifar100"]) == ": did you mean 'cifar100'?"


def test_options_in_another_case_and_own_presets(command, folder: Path, presets_of) -> None:
    assert command.refused("loss=KD", "dataset=CIFAR100") == [
        "loss=KD does not exist: did you mean 'kd'?",
        "dataset=CIFAR100 does not exist: did you mean 'cifar100'?",
    ]
    (sentence,) = command.refused("loss=mine")
    assert sentence.endswith("If it is a preset of your own, add --config-dir DIR")
    (folder / "presets/loss").mkdir(parents=True)
    (folder / "presets/loss/ours.yaml").write_text("defaults: [kd]\n")
    assert command.refused("loss=ours") == [
        "loss=ours does not exist among the presets of distill, but presets/loss/ours.yaml does: "
        "add --config-dir presets"
    ]
    assert command.plan("loss=ours", config_dir=folder / "presets").names["loss"].startswith("ours")


def test_a_folder_that_cannot_be_read_is_passed_over(command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`lost+found` of another user: root may read it, so the system call refuses here."""
    (folder / "lost+found").mkdir()
    stat = os.stat

    def refuse(path: object, *args: object, **kwargs: object) -> os.stat_result:
        if "lost+found/loss" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", refuse)
    assert command.refused("loss=kdd") == ["loss=kdd does not exist: did you mean 'kd'?"]


def test_files_for_a_data_set_that_reads_none(command) -> None:
    rest = "is not a key of this data set: add dataset=arrays for a file of your own, or dataset=cifar10 or cifar100"
    found = command.refused("dataset.npz=a.npz", "dataset.root=b", "npz=c.npz")
    assert found == [
        "npz is not a key: write dataset=arrays dataset.npz=c.npz",
        f"dataset.npz {rest}",
        f"dataset.root {rest}",
    ]


@pytest.mark.parametrize("name", ["joblib", "submitit_local"])
def test_launchers_that_are_not_installed(command, name: str) -> None:
    if find_spec(f"hydra_plugins.hydra_{name.split('_')[0]}_launcher"):
        pytest.skip("the extra is installed: distill[launchers]")
    found = command.refused(f"hydra/launcher={name}", "seed=1,2", multirun=True)
    assert f'hydra/launcher={name} is not installed: pip install "distill[launchers]", or use' in found[0]


def test_a_mistyped_launcher(command) -> None:
    (sentence,) = command.refused("hydra/launcher=cohrt", "seed=1,2", multirun=True)
    assert sentence == "hydra/launcher=cohrt does not exist: did you mean 'cohort'?"


@pytest.mark.parametrize(
    "key",
    ["hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.chdir", "hydra.output_subdir", "hydra.mode"],
)
def test_settings_of_hydra_without_effect(command, key: str) -> None:
    (sentence,) = command.refused(f"{key}=x")
    assert sentence.startswith(f"{key} has no effect")


def test_hydras_own_search(command) -> None:
    (sentence,) = command.refused("hydra/sweeper=optuna", "seed=1,2", multirun=True)
    assert sentence.startswith("hydra/sweeper=optuna is not supported: write sweep=optuna")


@pytest.mark.parametrize("word", ["hydra.sweeper.params={seed: 1}", "+hydra.sweeper.params.seed=1,2"])
def test_parameters_of_hydras_own_sweeper(command, word: str) -> None:
    (sentence,) = command.refused(word, multirun=True)
    assert sentence.startswith("hydra.sweeper.params is not supported: write the values with -m")


def test_sweeps_without_an_end(command, presets_of) -> None:
    found = command.refused(
        "loss.temperature=interval(1,4)", "loss.ce_weight=range(1,10,0)", "seed=range(1,inf)", multirun=True
    )
    assert found == [
        "loss.temperature=interval(1,4) names no values: list them, as in loss.temperature=1,2,4, or search an "
        "interval with sweep=optuna",
        "loss.ce_weight=range(1,10,0) has no end: write range(START,STOP,STEP) with finite numbers and a step other "
        "than 0",
        "seed=range(1,inf) has no end: write range(START,STOP,STEP) with finite numbers and a step other than 0",
    ]
    assert command.refused("seed=range(1,1000000000)", multirun=True) == [
        "seed=range(1,1000000000) names more than 10,000 values: choose fewer"
    ]
    for empty in ("glob(*)", "range(3,1)"):
        assert command.refused(f"seed={empty}", multirun=True) == [
            f"seed={empty} names no values: list them, as in seed=1,2,4"
        ]
    assert command.refused("seed=range(0,200)", "teacher.seed=range(0,200)", multirun=True) == [
        "the sweep has 40,000 runs: name fewer values, at most 10,000 runs"
    ]
    own = presets_of({"sweep/endless.yaml": 'params: {seed: "range(1,inf)"}\n'})
    assert "has no end" in command.refused("sweep=endless", config_dir=own)[0]


def test_values_that_no_machine_takes(command) -> None:
    found = command.refused(f"seed={2**64}", f"recipe.epochs={10**400}", "engine.device=meta")
    assert found == [
        "seed must lie between -2^63 and 2^63, got one of 65 bits: change it",
        "recipe.epochs must lie between -2^63 and 2^63, got one of 1329 bits: change it",
        "engine.device=meta cannot be used here (nothing can be trained on it): set engine.device=cpu or auto",
    ]
    (sentence,) = command.refused(f"seed={'9' * 5000}")
    assert "is not KEY=VALUE" in sentence
    (sentence,) = command.refused("dataset=synthetic", f"dataset.train_size={10**14}")
    assert sentence.startswith("more memory is needed than there is (Unable to allocate")


def test_what_cannot_be_composed_has_one_sentence(command, presets_of) -> None:
    assert command.refused("hydra=foo") == ["force-add of config groups is not supported: '++hydra=foo'"]
    own = presets_of({"loss/mine.yaml": "defaults: [{override /recipe: demo}]\n"})
    (sentence,) = command.refused("loss=mine", config_dir=own)
    assert "Could not override" in sentence or "overrides" in sentence


def test_targets_that_are_no_networks(command) -> None:
    (sentence,) = command.refused("student._target_=sys.exit")
    assert sentence == "student: sys.exit ended the program instead of returning an object: name another _target_"
    (sentence,) = command.refused("student._target_=builtins.print")
    assert sentence.startswith("student: builtins.print must return a torch.nn.Module, it returned NoneType: name")


def test_ordinary_paths(command, image_files, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    data = image_files[10].read_bytes()
    chosen = ("dataset=cifar10", "loss=ce")
    ids = set()
    for name in ("a=b.npz", "#1.npz", "é.npz", "data (1).npz", "it's.npz", "a,b.npz", "12e4", "~x.npz"):
        (folder / name).write_bytes(data)
        for path in (name, f"~/{name}"):
            plan = command.plan(*chosen, f"dataset.npz={path}")
            assert Path(plan.config["dataset"]["npz"]).resolve() == folder / name
            ids.add(plan.run_id)
    assert len(ids) == 1
    plan = command.plan(*chosen, "dataset.npz=é.npz", "runs_dir=my runs (=1)")
    assert plan.runs_dir == Path("my runs (=1)")
    assert command.refused(*chosen, "dataset.npz=gone (1).npz") == [
        "there is no file gone (1).npz: set dataset.npz to an .npz file with x_train y_train x_test y_test"
    ]
    for name in ("x.npz", "y.npz"):
        (folder / name).write_bytes(data)
    swept = command.plans(*chosen, "dataset.npz=x.npz,y.npz", "seed=1", multirun=True)  # a list of paths is a sweep
    assert [plan.config["dataset"]["npz"] for plan in swept] == ["x.npz", "y.npz"]


def test_a_value_that_is_no_override_has_one_sentence(command) -> None:
    found = command.refused("dataset=arrays", "recipe=demo", "loss=ce", "dataset.npz=[1,2")
    assert len(found) == 1
    assert found[0].startswith("'dataset.npz=[1,2' is not KEY=VALUE")


def test_the_recipe_follows_the_data_set(command, image_files, presets_of) -> None:
    def recipe(*words: str, **options: Path) -> str:
        return str(command.plan("loss=ce", *words, **options).names["recipe"])

    assert recipe() == recipe("dataset=synthetic") == "demo"
    ten, hundred = (f"dataset.npz={image_files[classes]}" for classes in (10, 100))
    assert recipe("dataset=cifar10", ten) == recipe("dataset=cifar100", hundred) == "cifar"
    assert recipe("dataset=cifar10", ten, "recipe=demo") == "demo"
    assert recipe("experiment=demo", "dataset=cifar10", ten) == "demo"
    assert recipe("experiment=cifar100/resnet56_deit_tiny", hundred) == "cifar_vit"
    own = presets_of({"experiment/mine.yaml": "# @package _global_\ndefaults: [{override /dataset: cifar10}]\n"})
    assert recipe("experiment=mine", ten, config_dir=own) == "cifar"
    taught = command.plan("dataset=cifar10", ten)
    assert taught.teacher.plan.names["recipe"] == taught.names["recipe"] == "cifar"
    named = command.plan("dataset=cifar10", ten, "recipe=cifar")
    assert (named.run_id, named.teacher.plan.run_id) == (taught.run_id, taught.teacher.plan.run_id)
    assert command.plan("dataset=cifar10", ten, "recipe@teacher.recipe=demo").names["recipe"] == "cifar"


def test_a_data_set_of_your_own_needs_a_recipe(command, image_files) -> None:
    data = ("dataset=arrays", f"dataset.npz={image_files[10]}")
    for words in ((), ("loss=ce",), ("recipe.epochs=3",)):
        (sentence,) = command.refused(*data, *words)
        assert sentence.startswith("dataset=arrays chooses no recipe: add recipe=NAME, for example recipe=cifar (240")
    assert command.plan(*data, "recipe=demo").recipe.epochs == 6


@pytest.mark.parametrize("dataset", ["image_folder", "imagenette", "imagenet"])
def test_photographs_need_a_student_and_a_teacher(command, dataset: str) -> None:
    """The networks that a command without any takes are for images of 32 pixels."""
    words = (f"dataset={dataset}", "dataset.root=nowhere", "recipe=demo")
    student = f"dataset={dataset} chooses no student: add student=NAME, for example student=torchvision student.name="
    teacher = "loss=kd needs a teacher: choose teacher=NAME or teacher.run=ID"
    absent = "there is no folder nowhere"
    for more, expected in (
        ((), [student, teacher, absent]),
        (("student=resnet18",), [teacher, absent]),
        (("loss=ce", "student.name=resnet18"), [student, absent]),
        (("loss=ce", "student=resnet18"), [absent]),
        (("loss=ce", "student._target_=distill.models.resnet18"), [absent]),
        (("student=resnet18", "teacher=resnet34"), [absent]),
    ):
        found = command.refused(*words, *more)
        assert [sentence.startswith(start) for sentence, start in zip(found, expected, strict=True)] == [True] * len(
            found
        )


def test_the_numbers_of_grey_images(command, folder: Path) -> None:
    random = np.random.RandomState(0)
    parts = {f"x_{part}": random.randint(0, 256, (20, 16, 16), dtype=np.uint8) for part in ("train", "test")}
    np.savez(folder / "grey.npz", **parts, y_train=np.arange(20) % 2, y_test=np.arange(20) % 2)
    plan = command.plan("dataset=arrays", "dataset.npz=grey.npz", "recipe=demo", "loss=ce")
    assert plan.dataset.train_images.shape == (20, 16, 16, 3)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("+experiment=demo", "experiment is chosen already: write experiment=NAME, without the +"),
        ("+loss=kd", "loss is chosen already: write loss=NAME, without the +"),
        (
            "+student@teacher.network=resnet14",
            "student@teacher.network is chosen already: write student@teacher.network=NAME, without the +",
        ),
        ("~loss.temprature", "~loss.temprature: loss.temprature is not a key: did you mean 'temperature'?"),
        ("~engine.threads", "~engine.threads: it has no value to delete: set engine.threads=null instead"),
    ],
)
def test_what_hydra_would_answer_in_its_own_terms(command, word: str, sentence: str) -> None:
    (told,) = command.refused(*command.tiny, word)
    assert told == sentence


def test_of_two_keys_that_do_not_exist_one_is_named(command) -> None:
    (told,) = command.refused(*command.tiny, "~loss.temprature", "~foo.bar")
    assert "is not a key" in told


def test_a_list_of_run_ids_is_a_list_of_texts(command) -> None:
    told = command.refused(*command.tiny, "teacher.run=12e4,3f2a", multirun=True)
    assert any("no run matches '12e4'" in each for each in told)
    assert any("no run matches '3f2a'" in each for each in told)
