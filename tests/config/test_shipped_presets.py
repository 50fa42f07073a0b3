"""Every preset composes, passes all checks, and is what its group says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from distill.config import configs_dir
from distill.config.compose.presets import Presets
from distill.config.faults import Refused
from distill.config.preflight import preflight
from distill.tables.presets import equal_presets

CONFIGS = configs_dir()
GROUPS = ("dataset", "student", "teacher", "loss", "recipe", "experiment", "sweep")
# untouched by the command, whose every composed name would cost a composition more
SMALL = "defaults: [synthetic]\nimage_size: 16\nclasses: 100\n"


def options(group: str) -> list[str]:
    folder = CONFIGS / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


EXPERIMENTS = options("experiment")
PUBLISHED = [name for name in EXPERIMENTS if name.startswith("imagenet")]  # their teachers are published weights
NETWORKS = [name for name in options("student") if name not in ("timm", "torchvision")]


def test_there_are_no_other_groups() -> None:
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    assert folders - {"table"} == set(GROUPS)  # table is plain data
    assert all(options(group) for group in GROUPS)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_networks_of_a_library(command, library: str) -> None:
    name = {"timm": "test_resnet", "torchvision": "squeezenet1_1"}[library]
    overrides = (f"student={library}", f"student.name={name}", f"teacher={library}", f"teacher.network.name={name}")
    plan = command.plan("dataset=synthetic", *overrides)
    assert plan.names["student"] == plan.names["teacher"] == f"{library} name={name}"
    assert plan.directory.name.startswith(f"{library}_network.{name}-kd-s1-")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_student_and_teacher(command, name: str) -> None:
    plan = command.plan(*command.tiny, f"student={name}", f"teacher={name}")
    assert (plan.names["student"], plan.names["teacher"]) == (name, name)
    folder = plan.directory.name.split("-")[0]
    assert folder == plan.teacher.plan.directory.name.split("-")[0]
    assert folder == name or folder.startswith("timm_network.")
    assert plan.teacher.plan.config["student"] == plan.config["student"]


ALONE = ("ce", "label_smoothing", "tf_kd")


def test_every_loss(command, presets_of) -> None:
    experiment = ("experiment=cifar100/vgg13_vgg8", "pair.ce_weight=1")  # values for its pair in every paper
    data = {"config_dir": presets_of({"dataset/small.yaml": SMALL}), "multirun": True}
    plans = command.plans("dataset=small", *experiment, f"loss={','.join(options('loss'))}", **data)
    names = [plan.names["loss"].removesuffix(" ce_weight=1") for plan in plans]
    assert names == options("loss")
    assert len({plan.run_id for name, plan in zip(names, plans, strict=True) if name in METHODS}) == len(METHODS)
    for name, plan in zip(names, plans, strict=True):
        taught = plan.objective() if plan.first_stage is None else plan.first_stage.objective()
        assert taught.needs_teacher is (name not in ALONE)
        assert (plan.teacher is None) is (name in ALONE)
        assert "alpha" not in plan.config["loss"]
    paper = plans[names.index("zscore_kd_paper")].config["loss"]
    assert (paper["temperature"], paper["kd_weight"]) == (3.0, 9.0)
    plain = plans[names.index("zscore_kd")].config["loss"]
    assert (plain["temperature"], plain["kd_weight"]) == (2.0, 9.0)


def test_every_recipe(command) -> None:
    names = [name for name in options("recipe") if name != "none"]
    plans = command.plans(*command.tiny, f"recipe={','.join(names)}", multirun=True)
    recipes = {plan.names["recipe"]: plan.recipe for plan in plans}
    assert list(recipes) == names
    assert (recipes["cifar"].epochs, recipes["cifar"].batch_size) == (240, 64)
    assert recipes["cifar_short"].epochs == 10
    assert {recipes[name].reference_epochs for name in ("cifar", "cifar_short", "demo")} == {240}
    assert all(recipe.reference_epochs in (240, recipe.epochs) for recipe in recipes.values())
    assert (recipes["cifar_mlkd"].epochs, recipes["cifar_mlkd"].schedule(150, 480)) == (480, 1)
    assert recipes["cifar_mlkd"].schedule(151, 480) == pytest.approx(0.1)
    for name, batch, rate in (("imagenet", 512, 0.2), ("imagenet_256", 256, 0.1)):
        recipe = recipes[name]
        assert (recipe.epochs, recipe.batch_size, recipe.reference_epochs) == (100, batch, 100)
        (group,) = recipe.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups
        assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (rate, 0.9, 1e-4, False)
        factors = [recipe.schedule(epoch, 100) for epoch in (30, 31, 60, 61, 90, 91)]
        assert factors == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001])
    started = {"cifar_vit": 0.001, "imagenette": 0.1}
    for name, recipe in recipes.items():
        last = recipe.epochs
        assert recipe.schedule(1, last) == started.get(name, 1)
        assert recipe.schedule(last, last) < 0.011


PHOTOGRAPHS = ("image_folder", "imagenet", "imagenette")


@pytest.mark.parametrize("name", options("dataset"))
def test_every_data_set(command, image_files, name: str) -> None:
    if name in PHOTOGRAPHS:  # tested with their files in tests/data
        with pytest.raises(Refused, match=r"dataset.root .class folders. or dataset.shards"):
            command.plan(f"dataset={name}", "loss=ce", "recipe=demo")
        return
    classes = 100 if name == "cifar100" else 10
    file = [f"dataset.npz={image_files[classes]}"] if name in ("arrays", "cifar10", "cifar100") else []
    plan = command.plan(f"dataset={name}", "loss=ce", *file, *(["recipe=demo"] if name == "arrays" else []))
    assert plan.dataset.num_classes == classes
    assert plan.names["dataset"].split()[0] == name
    assert plan.dataset.num_views == (81 if name == "digits" else 162)


METHODS = [loss for loss in options("loss") if "/" not in loss and not loss.endswith("_paper")]
SWEEPS = {
    "seeds": [{"seed": seed} for seed in "1234"],
    "temperature": [{"loss.temperature": t} for t in "123468"],
    "alpha": [{"loss.alpha": a} for a in ("0.1", "0.3", "0.5", "0.7", "0.9")],
    "weight": [{"loss.kd_weight": w} for w in ("0.9", "3", "9", "15")],
    "temperature_alpha": [{"loss.temperature": t, "loss.alpha": a} for t in "1248" for a in ("0.1", "0.5", "0.9")],
    "tau_weight": [{"loss.temperature": t, "loss.kd_weight": w} for t in "23" for w in ("3", "6", "9", "12", "15")],
    "controls": [
        {"loss": loss, "seed": seed}
        for loss in ("ce", "kd_w09_t2", "kd_w9_t2", "zscore_kd_w09", "zscore_kd")
        for seed in "123"
    ],
    "methods": [{"loss": loss} for loss in METHODS],
    "demo": [{"loss": loss, "seed": seed} for loss in ("ce", "kd", "zscore_kd") for seed in "123"],
    "optuna": [{}],  # proposes the values itself
}


def test_there_are_no_other_sweeps() -> None:
    assert set(options("sweep")) == set(SWEEPS)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep(command, name: str) -> None:
    presets = Presets()
    parsed, faults = presets.parse([*command.tiny, f"sweep={name}"])
    jobs = presets.jobs(presets.with_sweep(parsed, presets.compose([presets.text(o) for o in parsed]))[0])
    assert faults == []
    chosen = [dict(o.lstrip("+").split("=") for o in job if "dataset" not in o and "sweep" not in o) for job in jobs]
    assert chosen == SWEEPS[name]
    for job in (jobs[0], jobs[-1]):
        preflight(presets.compose(job), presets)


def keys(node: object, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{path}{key}"
            yield from keys(value, f"{path}{key}.")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_choose_a_loss_at_most(name: str) -> None:
    """A value under `loss` would bleed into whatever loss is chosen on the command line."""
    text = (CONFIGS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert not [key for key in keys(yaml.safe_load(text)) if key.split(".")[0] == "loss"]


def test_each_teacher_has_one_id_and_every_loss_is_its_presets(command, presets_of) -> None:
    """(data set, teacher, recipe) decide; the id equals that of `student=TEACHER loss=ce seed=0`."""
    own = presets_of({"dataset/small.yaml": SMALL})
    trained = [name for name in EXPERIMENTS if name not in PUBLISHED]
    chosen = (f"experiment={','.join(trained)}", "dataset=small", "loss=zscore_kd")
    plans = command.plans(*chosen, multirun=True, config_dir=own)
    loss = command.plan("dataset=small", "loss=zscore_kd", config_dir=own).config["loss"]
    ids: dict[tuple[str, str], set[str]] = {}
    for plan in plans:
        ids.setdefault((plan.names["teacher"], plan.teacher.plan.names["recipe"]), set()).add(plan.teacher.plan.run_id)
        assert plan.config["loss"] == loss
    assert len(plans) == len(trained)
    assert all(len(found) == 1 for found in ids.values())
    assert ids.keys() >= {("resnet32x4", "cifar"), ("resnet56", "cifar"), ("resnet56", "cifar_cosine")}
    for (teacher, recipe), found in ids.items():
        alone = ("dataset=small", f"student={teacher}", "loss=ce", "seed=0", f"recipe={recipe}")
        plan = command.plan(*alone, config_dir=own)
        assert found == {plan.run_id}
        assert (plan.names["student"], plan.names["teacher"]) == (teacher, "none")


# by experiment: dataset, recipe, student, teacher, and the numbers of losses that read the pair
OF_PHOTOGRAPHS = {
    "imagenet/resnet34_resnet18": ("imagenet imagenet", "resnet18", "resnet34", (1.0, 0.5)),
    "imagenet/resnet50_mobilenet_v1": ("imagenet imagenet", "mobilenet_v1", "resnet50", (0.5, 2.0)),
    "imagenette/efficientnet_lite0_mobilenet_v1": (
        "imagenette imagenette",
        "mobilenet_v1",
        "tf_efficientnet_lite0",
        (1.0, None),
    ),
    "imagenette/efficientnet_lite0_resnet18": (
        "imagenette imagenette",
        "resnet18",
        "tf_efficientnet_lite0",
        (1.0, None),
    ),
}


def test_there_are_no_other_experiments_on_photographs() -> None:
    assert set(PUBLISHED) == set(OF_PHOTOGRAPHS)


@pytest.mark.parametrize("name", OF_PHOTOGRAPHS)
def test_experiments_on_photographs(shipped: Presets, name: str) -> None:
    data, student, teacher, (ce_weight, nontarget) = OF_PHOTOGRAPHS[name]
    by_loss = {}
    for loss in ("kd", "kd_paper", "kd_w9_t2", "zscore_kd", *(["dkd"] if nontarget else [])):
        composed = shipped.compose([f"experiment={name}", f"loss=imagenet/{loss}"])
        assert composed.faults == []
        by_loss[loss] = composed.config["loss"]
    config = composed.config
    assert f"{composed.choices['dataset']} {composed.choices['recipe']}" == data
    assert config["student"].get("name", composed.choices["student"]) == student
    assert config["teacher"]["network"]["name"] == teacher
    assert config["teacher"]["pretrained"]
    found = {name: [node[key] for key in ("temperature", "ce_weight")] for name, node in by_loss.items()}
    assert (found["kd"], by_loss["kd"]["kd_weight"]) == ([1.0, 0.5], 0.5)
    assert (found["kd_paper"], by_loss["kd_paper"]["kd_weight"]) == ([1.0, ce_weight], 0.5)
    for loss, divergence in (("kd_w9_t2", "kd"), ("zscore_kd", "zscore_kd")):
        assert (found[loss], by_loss[loss]["kd_weight"]) == ([2.0, ce_weight], 9.0)
        assert by_loss[loss]["divergence"]["_target_"] == f"distill.losses.{divergence}"
    if nontarget:
        node = by_loss["dkd"]
        assert (found["dkd"], node["target_weight"], node["nontarget_weight"]) == ([1.0, 1.0], 1.0, nontarget)
        assert node["ramp_epochs"] == 1


def test_a_loss_without_a_teacher_needs_nothing_of_a_published_one(command) -> None:
    """The baseline of an experiment whose teacher is published: `expected` belongs to a teacher that is not read."""
    plan = command.plan(*command.tiny, "recipe=cifar", "teacher=efficientnet_lite0", "loss=ce")
    assert plan.teacher is None
    assert plan.run_id == command.plan(*command.tiny, "recipe=cifar", "loss=ce").run_id


def test_the_demo_is_what_train_does_by_itself(command) -> None:
    assert command.plan("experiment=demo").run_id == command.plan().run_id


def test_every_file_says_what_it_is_and_how_it_is_used() -> None:
    for group in ("recipe", "experiment", "sweep"):
        for path in (CONFIGS / group).rglob("*.yaml"):
            text = Path(path).read_text(encoding="utf-8")
            comment = [line for line in text.splitlines() if line.startswith("#")]
            assert text.startswith("#"), path
            assert any("distill train" in line for line in comment), path


def test_every_preset_that_no_experiment_fills_is_equal_to_itself(shipped: Presets) -> None:
    """As runs record it: with the values that it takes from other keys of its own."""
    folder = configs_dir() / "loss"
    texts = {path.relative_to(folder).with_suffix("").as_posix(): path.read_text() for path in folder.rglob("*.yaml")}
    whole = [name for name, text in texts.items() if "${pair." not in text and "defaults:" not in text]
    assert len(whole) > 30
    recorded = {name: shipped.compose([f"loss={name}"]).config["loss"] for name in whole}
    assert [name for name, node in recorded.items() if name not in equal_presets(node)] == []
