"""Every method meets every network: they work together, or the method says at composition what is lacking."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from distill.config.build import build_objective, try_network
from distill.config.check import check_target
from distill.config.compose.presets import Presets
from distill.config.plan import split_stages
from distill.config.rehearsal import rehearse
from distill.models import as_network, mobilenet_v1, torchvision_network
from distill.models.meta import shapes_of

PRESETS = Presets()
CLASSES = 10
LABELS = torch.arange(40) % CLASSES
# of each family the smallest; all of them under the marker `slow`
FAMILIES = ("resnet8", "resnet8x4", "wrn_16_1", "vgg8", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "resnet50")
OTHERS = ("plain_cnn", "deit_tiny")
FOREIGN: dict[str, tuple[str, ...]] = {"timm": ("student.name=resnet18",), "torchvision": ("student.name=resnet18",)}


@cache
def methods() -> dict[str, list[dict[str, Any]]]:
    """The stages of every preset that reads more than logits; logits fit any pair of equal classes."""
    found, names = {}, PRESETS.groups["loss"]
    pair = ("experiment=cifar100/resnet32x4_resnet8x4", "pair.ce_weight=1")
    configs = PRESETS.declared([[f"loss={name}", *pair] for name in names])
    for name, config in zip(names, configs, strict=True):
        loss, stage = split_stages(config["loss"])
        nodes = [loss, *([stage["loss"]] if stage else [])]
        faults: list[str] = []
        checked = [check_target(node, "loss", faults) for node in nodes]
        assert not faults
        reading = [node for node in checked if not build_objective(node, seed=0).logits_only]
        if reading:
            found[name] = reading
    return found


@cache
def network(name: str) -> nn.Module:
    """The preset without its values."""
    node = PRESETS.compose([f"student={name}", *FOREIGN.get(name, ())]).config["student"]
    return try_network(node, num_classes=CLASSES, image_size=32)


def meet(student: nn.Module, teacher: nn.Module) -> dict[str, str]:
    """How each method fares: "" where it works, else the reason it gives; anything but a reason is an error."""
    told = {}
    for name, stages in methods().items():
        told[name] = ""
        for node in stages:
            objective = build_objective(node, seed=0)
            try:
                terms = rehearse(objective, student, teacher, image_size=32, labels=LABELS)
            except ValueError as refusal:
                told[name] = str(refusal)
                assert "\n" not in told[name]
                assert any(word in told[name] for word in ("student", "teacher", "networks"))
                assert ": " in told[name], "the sentence ends with what to do"
            else:
                assert terms
    return told


@pytest.mark.parametrize("name", FAMILIES + OTHERS)
def test_every_family(name: str) -> None:
    told = [meet(network(student), network(teacher)) for student, teacher in ((name, "resnet8"), ("resnet8", name))]
    if name == "resnet8":  # the same network on both sides has all that any method needs
        assert not any(reason for each in told for reason in each.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS.groups["student"])
def test_every_network(name: str) -> None:
    for student, teacher in ((name, "resnet20"), ("resnet8x4", name)):
        meet(network(student), network(teacher))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [e for e in PRESETS.groups["experiment"] if e.startswith("cifar100/")])
def test_every_method_works_on_the_pairs_of_the_convolutional_tables(experiment: str) -> None:
    config = PRESETS.compose([f"experiment={experiment}"])
    told = meet(network(config.choices["student"]), network(config.choices["teacher"]))
    if "tiny" in experiment:
        return  # transformers have neither stages nor preactivations
    refused = {name: reason for name, reason in told.items() if reason}
    widths = {network(config.choices[of]).feature_channels for of in ("student", "teacher")}
    assert refused.keys() == ({"fsp"} if len(widths) > 1 else set())


@pytest.mark.parametrize("student", ["resnet18", "mobilenet_v1"])
def test_methods_on_the_pairs_of_imagenet(student: str) -> None:
    """At 224 pixels; the ResNets are torchvision's, which give no maps before the ReLU."""
    with torch.device("meta"):
        names = ("resnet34", "resnet18") if student == "resnet18" else ("resnet50",)
        teacher, *other = (shapes_of(torchvision_network(name=name, num_classes=1000)) for name in names)
        ours = other[0] if other else shapes_of(mobilenet_v1())
    labels, refused = torch.arange(20_000) % 1000, set()
    for name, stages in methods().items():
        for node in stages:
            try:
                rehearse(build_objective(node, seed=0), ours, teacher, image_size=224, labels=labels)
            except ValueError:
                refused.add(name)
    assert refused == {"ab", "ofd"} | ({"fsp"} if student == "mobilenet_v1" else set())  # it compares equal widths


def test_stages_that_end_without_a_relu_are_their_own_preactivations() -> None:
    told = meet(network("mobilenet_v2"), network("vgg13"))
    assert {name for name, reason in told.items() if reason} == {"fsp"}


def test_a_network_with_logits_alone_is_refused_with_the_reason() -> None:
    class Logits(nn.Module):
        def __init__(self, num_classes: int = CLASSES) -> None:
            super().__init__()
            self.layer = nn.Linear(3, num_classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images.mean((2, 3)))

    alone = as_network(Logits(), num_classes=CLASSES)
    for student, teacher, of in ((alone, network("resnet8"), "student"), (network("resnet8"), alone, "teacher")):
        told = meet(student, teacher)
        accepted = {name for name, reason in told.items() if not reason}
        assert accepted == set()
        assert all(of in reason for reason in told.values())
