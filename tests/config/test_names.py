"""What a run is called: its presets, and what was changed in them."""

import pytest

from distill.config.compose.names import run_names
from distill.config.compose.presets import Presets


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "kd"),
        (("loss.alpha=0.9",), "kd"),
        (("loss.temperature=2", "loss.kd_weight=9"), "kd temperature=2 kd_weight=9"),
        (("loss=kd_w9_t2", "loss.kd_weight=0.9", "loss.temperature=4"), "kd_w9_t2 temperature=4 kd_weight=0.9"),
        (("loss.temperature=3",), "kd temperature=3"),
        (("loss.kd_weight=0.9000000000000001",), "kd"),  # as in the id
        (
            ("loss=zscore_kd_paper", "pair.zscore_temperature=3", "pair.zscore_weight=8"),
            "zscore_kd_paper temperature=3 kd_weight=8",
        ),
        (("loss.alpha=0.5",), "kd ce_weight=0.5 kd_weight=0.5"),
        (("loss=ablation/student_only",), "ablation/student_only"),
        (("loss=zscore_kd", "loss.kd_weight=0.9"), "zscore_kd kd_weight=0.9"),
    ],
)
def test_losses(command, overrides, name: str) -> None:
    assert command.plan(*command.tiny, *overrides).names["loss"] == name


def test_alpha_becomes_the_weights_one_would_type(command) -> None:
    loss = command.plan(*command.tiny, "loss.alpha=0.9").config["loss"]
    assert (loss["ce_weight"], loss["kd_weight"]) == (0.1, 0.9)
    assert "alpha" not in loss


def test_all_parts(command) -> None:
    names = command.plan(*command.tiny, "recipe.epochs=3", "student=plain_cnn", "dataset.holdout=20").names
    assert names == {
        "dataset": "synthetic image_size=16 holdout=20",
        "student": "plain_cnn",
        "teacher": "resnet20",
        "loss": "kd",
        "recipe": "demo epochs=3",
    }
    assert command.plan(*command.tiny, "loss=ce").names["teacher"] == "none"


def test_an_experiment_is_the_base_of_its_names(command) -> None:
    plan = command.plan(
        "experiment=cifar100/resnet110_resnet20",
        "loss=zscore_kd_paper",
        "dataset=synthetic",
        "dataset.classes=100",
        "dataset.image_size=16",
    )
    assert (plan.names["loss"], plan.names["student"], plan.names["teacher"]) == (
        "zscore_kd_paper",
        "resnet20",
        "resnet110",
    )


@pytest.mark.parametrize(
    ("experiment", "student", "teacher"),
    [
        ("imagenet/resnet34_resnet18", "torchvision name=resnet18", "torchvision name=resnet34"),
        ("imagenet/resnet50_mobilenet_v1", "mobilenet_v1", "torchvision name=resnet50"),
        ("imagenette/efficientnet_lite0_resnet18", "torchvision name=resnet18", "efficientnet_lite0"),
        ("cifar100/resnet110_resnet20", "resnet20", "resnet110"),
    ],
)
def test_a_network_that_an_experiment_names_is_named(
    shipped: Presets, experiment: str, student: str, teacher: str
) -> None:
    composed = shipped.compose([f"experiment={experiment}"])
    names = run_names(composed, composed.config, shipped)
    assert (names["student"], names["teacher"]) == (student, teacher)


def test_a_class_of_ones_own_has_its_own_name(command, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs_by_name.py").write_text(
        "from torch import nn\n"
        "class Plain(nn.Sequential):\n"
        "    def __init__(self, num_classes, width=4):\n"
        "        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ("student._target_=theirs_by_name.Plain", "+student.width=5")
    assert command.plan(*command.tiny, *words, "loss=ce").names["student"] == "Plain width=5"
