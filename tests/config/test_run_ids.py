"""What is in a run's id and what is not; some ids for good."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.config import configs_dir
from distill.config.identity import canonical_network, canonical_node, short_names

GOLDEN = {
    ("dataset=digits", "loss=ce", "student=resnet20", "seed=0", "recipe=cifar"): "e9cd772800cb",
    ("dataset=digits", "loss=kd", "recipe=cifar"): "616b30aa8e0a",
    ("dataset=digits", "loss=zscore_kd", "recipe=cifar", "seed=2"): "6fa9fcd328e5",
    ("dataset=digits", "loss=kd", "recipe=cifar", "precision=bf16"): "ba7203167fc5",
    ("dataset=digits", "loss=kd", "recipe=cifar", "loss.alpha=0.5", "loss.temperature=2"): "7e564ec052f8",
    ("dataset=digits", "loss=kd", "recipe=cifar", "dataset.holdout=100"): "a3017aa2d1be",
    ("dataset=digits", "loss=kd", "recipe=cifar", "teacher=resnet32", "teacher.seed=3"): "f3257cb5e2b2",
    ("dataset=synthetic", "loss=logit_mse", "recipe=cifar_short", "student=plain_cnn"): "2ac0c9806faf",
    (
        "dataset=synthetic",
        "loss=ablation/student_only",
        "recipe=cifar_short",
        "teacher.recipe.epochs=3",
    ): "e76d535dc09b",
    (
        "dataset=synthetic",
        "loss=soft_ce",
        "recipe=cifar_short",
        "recipe.optimizer.lr=0.01",
        "dataset.limit=50",
    ): "63e2cd0c4412",
}


@pytest.mark.parametrize("overrides", GOLDEN, ids=" ".join)
def test_golden_ids(command, overrides) -> None:
    """A changed id orphans every finished run: change it on purpose only, with `NUMERICS_VERSION`."""
    assert command.plan(*overrides).run_id == GOLDEN[overrides]


@pytest.fixture
def run_id(command):
    def of(*overrides: str) -> str:
        return command.plan(*command.tiny, *overrides).run_id

    return of


EQUAL = {
    "alpha and the weights it stands for": (("loss.alpha=0.9",), ()),
    "alpha and other weights": (("loss.alpha=0.3",), ("loss.ce_weight=0.7", "loss.kd_weight=0.3")),
    "alpha not given": (("loss.alpha=null",), ()),
    "an integer for a number": (("loss.temperature=2",), ("loss.temperature=2.0",)),
    "a number for an integer": (("recipe.epochs=3.0",), ("recipe.epochs=3",)),
    "noise of arithmetic": (("loss.temperature=0.30000000000000004",), ("loss.temperature=0.3",)),
    "a default of a network": (
        ("student=timm", "student.name=test_resnet"),
        ("student=timm", "student.name=test_resnet", "~student.pretrained"),
    ),
    "what the data set decides": (("+student.num_classes=10",), ()),
    "a default left out": (("~recipe.schedule.gamma",), ()),
    "a default of a function": (("+recipe.optimizer.nesterov=false",), ()),
    "no label smoothing, no average": (("+recipe.label_smoothing=0", "+recipe.ema=null"), ()),
    "no warm-up": (("+recipe.schedule.warmup=0",), ()),
    "another way to write the list": (("recipe.schedule.milestones=[0.625,0.75,0.875]",), ()),
    "a preset and its values": (("loss=kd_w9_t2",), ("loss=kd", "loss.temperature=2", "loss.kd_weight=9")),
    "engine": (
        (
            *("engine.threads=1", "engine.checkpoint_seconds=5", "engine.device=cpu", "engine.deterministic=true"),
            "engine.gradient_norms_every=3",
        ),
        (),
    ),
    "runs_dir": (("runs_dir=elsewhere",), ()),
    "per-pair values that nothing reads": (("pair.zscore_weight=3",), ()),
    "a plus or two": (("++seed=1", "+loss.temperature=4"), ()),
    "the precision of the teacher spelt out": (("teacher.precision=fp32",), ()),
    "the same class by its private path": (("student._target_=distill.models.resnet.resnet8",), ()),
    "baseline without a teacher": (("loss=ce", "teacher=none"), ("loss=ce",)),
    "baseline with another teacher": (("loss=ce", "teacher=resnet56", "teacher.seed=4"), ("loss=ce",)),
    "a soft term of weight zero": (("loss.kd_weight=0", "teacher=none"), ("loss.kd_weight=0",)),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_ids(run_id, one, other) -> None:
    assert run_id(*one) == run_id(*other)


DIFFERENT = {
    "seed": "seed=2",
    "precision": "precision=bf16",
    "temperature": "loss.temperature=4.000001",
    "loss": "loss=soft_ce",
    "student": "student=resnet14",
    "teacher": "teacher=resnet14",
    "teacher's seed": "teacher.seed=1",
    "teacher's precision": "teacher.precision=bf16",
    "teacher's recipe": "teacher.recipe.epochs=3",
    "teacher's recipe option": "recipe@teacher.recipe=cifar_short",
    "recipe": "recipe.optimizer.weight_decay=0",
    "label smoothing": "recipe.label_smoothing=0.1",
    "an average of the weights": "recipe.ema=0.999",
    "a warm-up": "recipe.schedule.warmup=0.1",
    "another average of the weights": "recipe.ema=0.99",
    "recipe's reference": "recipe.reference_epochs=100",
    "holdout": "dataset.holdout=20",
    "limit": "dataset.limit=100",
    "content": "dataset.seed=1",
    "normalisation": "dataset.mean=[0.5,0.5,0.4]",
    "views": "dataset.pad=2",
    "flips": "dataset.flip=false",
}


def test_different_ids(run_id) -> None:
    ids = {name: run_id(override) for name, override in {"itself": "seed=1", **DIFFERENT}.items()}
    assert len(set(ids.values())) == len(ids)


def test_only_a_networks_number_of_classes_is_left_out() -> None:
    node = {"_target_": "torch.nn.Linear", "params": {"width": 8}, "num_classes": 10}
    assert canonical_node(node) == {"target": "torch.nn.Linear", "params": {"width": 8}, "num_classes": 10}
    assert canonical_network(node) == {"target": "torch.nn.Linear", "params": {"width": 8}}


def test_the_teachers_id_hangs_on_its_own_values_only(command) -> None:
    def teacher(*overrides: str) -> str:
        return command.plan(*command.tiny, *overrides).teacher.plan.run_id

    own = teacher()
    students = (
        ("recipe.epochs=3", "recipe.optimizer.lr=0.01", "recipe.batch_size=32", "recipe.schedule.gamma=0.5"),
        ("seed=7", "loss=zscore_kd", "student=resnet14"),
        ("engine.threads=1", "loss.temperature=9"),
    )
    for overrides in students:
        assert teacher(*overrides) == own
    changed = [
        teacher(override)
        for override in (
            "teacher.recipe.epochs=3",
            "teacher.seed=1",
            "teacher=resnet14",
            "dataset.holdout=20",
            "precision=bf16",
            "recipe=cifar_short",
            "teacher.loss.ce_weight=2",
        )
    ]
    assert len({own, *changed}) == len(changed) + 1
    assert teacher("precision=bf16", "teacher.precision=fp32") == own


def test_the_teachers_recipe_is_the_option_composed_afresh(command) -> None:
    plan = command.plan(*command.tiny, "recipe=cifar_short", "recipe.epochs=3", "teacher.recipe.optimizer.lr=0.02")
    assert (plan.recipe.epochs, plan.teacher.plan.recipe.epochs) == (3, 10)
    assert plan.config["recipe"]["optimizer"]["lr"] == 0.05
    assert plan.teacher.plan.config["recipe"]["optimizer"]["lr"] == 0.02
    assert plan.names["recipe"] == "cifar_short epochs=3"
    assert plan.teacher.plan.names["recipe"] == "cifar_short optimizer.lr=0.02"
    assert plan.teacher.plan.names["loss"] == "ce"
    assert plan.teacher.plan.seed == 0


def test_auto_is_resolved_before_it_is_digested(command) -> None:
    plan = command.plan(*command.tiny, "precision=auto")
    assert plan.precision in ("fp32", "bf16")
    assert plan.run_id == command.plan(*command.tiny, f"precision={plan.precision}").run_id
    assert plan.identity["precision"] == plan.precision


def test_the_same_data_from_another_file(command, image_files, tmp_path) -> None:
    """The path, class names, further arrays and the order of the test set are not what was trained on."""
    arrays = dict(np.load(image_files[10]))
    order = np.random.RandomState(0).permutation(10)
    moved, other = tmp_path / "moved.npz", tmp_path / "other.npz"
    names = np.array([f"class {n}" for n in range(10)])
    reordered = {name: arrays[name][order] for name in ("x_test", "y_test")}
    np.savez(moved, **(arrays | reordered), class_names=names, note=np.zeros(3))
    np.savez(other, **(arrays | {"x_train": arrays["x_train"][::-1]}))
    ids = [
        command.plan("dataset=cifar10", "loss=ce", f"dataset.npz={file}").run_id
        for file in (image_files[10], moved, other)
    ]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_one_content_has_one_id_whatever_the_data_set_is_called(command, image_files) -> None:
    cifar = command.plan("dataset=cifar10", "loss=ce", f"dataset.npz={image_files[10]}")
    values = [f"dataset.{key}={list(cifar.config['dataset'][key])}" for key in ("mean", "std")]
    arrays = command.plan("dataset=arrays", "recipe=cifar", "loss=ce", f"dataset.npz={image_files[10]}", *values)
    assert arrays.run_id == cifar.run_id
    assert (arrays.names["dataset"].split()[0], cifar.names["dataset"].split()[0]) == ("arrays", "cifar10")


def test_the_id_is_the_digest_of_the_identity_and_names_the_folder(command) -> None:
    from distill.runs.identity import run_id

    plan = command.plan(*command.tiny, "runs_dir=store", "seed=3")
    assert plan.run_id == run_id(plan.identity)
    assert plan.directory.as_posix() == f"store/resnet8-kd-s3-{plan.run_id}"
    assert plan.identity["teacher"] == {"run": plan.teacher.plan.run_id}
    assert command.plan(*command.tiny, "loss=ce").identity["teacher"] is None


def test_a_runs_folder_has_the_name_of_its_presets_family() -> None:
    folder = configs_dir() / "loss"
    named = {}
    for path in folder.rglob("*.yaml"):
        node = yaml.safe_load(path.read_text())
        if "defaults" not in node:
            node.pop("alpha", None)
            identity = {"objective": canonical_node(node), "student": {"target": "distill.models.resnet8"}}
            named[path.relative_to(folder).with_suffix("").as_posix()] = short_names(identity)
    unlike = {
        name: method
        for name, (_, method) in named.items()
        if name.split("/")[-1].partition("_paper")[0] not in (method, f"{method}_public", f"{method}_instance")
    }
    assert unlike == {
        "ab": "ce",  # after its first stage it is cross-entropy alone, and so is fsp
        "fsp": "ce",
        **dict.fromkeys(("kd_soft_only", "kd_w09_t2", "kd_w9_t2", "imagenet/kd_w9_t2"), "kd"),
        "zscore_kd_w09": "zscore_kd",
        **{name: "transformed_kd" for name in named if name.startswith("ablation/")},
    }


def test_a_run_is_found_by_its_id_under_any_name_of_its_folder(command, tmp_path: Path) -> None:
    plan = command.plan(*command.tiny, "loss=dkd", f"runs_dir={tmp_path}")
    assert plan.directory == tmp_path / f"resnet8-dkd-s1-{plan.run_id}"
    former = tmp_path / f"resnet8-decoupled_kd-s1-{plan.run_id}"
    former.mkdir()
    assert plan.directory == former
    former.rename(tmp_path / f"mine-{plan.run_id}")
    assert plan.directory == tmp_path / f"mine-{plan.run_id}"
    (tmp_path / f"mine-{plan.run_id}" / "export.json").write_text("{}")
    (tmp_path / "other").mkdir()
    assert plan.directory.name.startswith("resnet8-dkd-s1-")  # an export is no run


def test_a_changed_method_has_a_version_of_its_own_and_no_other_id_moves() -> None:
    changed = canonical_node({"_target_": "distill.losses.FeatureOverhaul"})
    assert changed["version"] == 2
    assert "version" not in canonical_node({"_target_": "distill.losses.CrossEntropy"})

    def mixture(**weights: float) -> dict[str, Any]:
        parts = {
            "ce": {"_target_": "distill.losses.CrossEntropy"},
            "ofd": {"_target_": "distill.losses.FeatureOverhaul"},
        }
        chosen = {name: parts[name] for name in weights}
        return canonical_node({"_target_": "distill.losses.Mixture", "parts": chosen, "weights": weights})

    assert mixture(ce=1.0, ofd=0.5)["version"] == 2
    assert "version" not in mixture(ce=1.0)
    assert "version" not in mixture(ce=1.0, ofd=0.0)
