"""The networks of the field's tables against its figures: size, cost, maps and names of the state."""

import hashlib
import re
from functools import cache

import pytest
import torch

from distill import models

Shapes = tuple[tuple[int, int, int], ...]

NARROW: Shapes = ((16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8))
FOURFOLD: Shapes = ((32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8))
WIDE: Shapes = ((16, 32, 32), (32, 32, 32), (64, 16, 16), (128, 8, 8))
VGG: Shapes = ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4))
BASIC: Shapes = ((64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4))
BOTTLENECK: Shapes = ((64, 32, 32), (256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4))
MOBILE: Shapes = ((16, 16, 16), (12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2))
SHUFFLE_V1: Shapes = ((24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4))
SHUFFLE_V2: Shapes = ((24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4))
LARGE_BASIC: Shapes = ((64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7))
LARGE_BOTTLENECK: Shapes = ((64, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))
LARGE_MOBILE: Shapes = ((128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7))

# parameters, millions of MACs of a 32x32 image as printed, maps, width of the embedding; with 100 classes
TABLE: dict[str, tuple[str, str, Shapes, int]] = {
    "resnet8": ("83,892", "12.507", NARROW, 64),
    "resnet14": ("181,108", "26.663", NARROW, 64),
    "resnet20": ("278,324", "40.819", NARROW, 64),
    "resnet32": ("472,756", "69.130", NARROW, 64),
    "resnet44": ("667,188", "97.442", NARROW, 64),
    "resnet56": ("861,620", "125.754", NARROW, 64),
    "resnet110": ("1,736,564", "253.156", NARROW, 64),
    "resnet8x4": ("1,233,540", "177.071", FOURFOLD, 256),
    "resnet32x4": ("7,433,860", "1083.041", FOURFOLD, 256),
    "wrn_16_1": ("180,916", "26.663", NARROW, 64),
    "wrn_16_2": ("703,284", "101.118", WIDE, 128),
    "wrn_40_1": ("569,780", "83.286", NARROW, 64),
    "wrn_40_2": ("2,255,156", "327.611", WIDE, 128),
    "vgg8": ("3,965,028", "96.193", VGG, 512),
    "vgg11": ("9,277,284", "209.439", VGG, 512),
    "vgg13": ("9,462,180", "284.936", VGG, 512),
    "vgg16": ("14,774,436", "398.182", VGG, 512),
    "vgg19": ("20,086,692", "511.429", VGG, 512),
    "mobilenet_v2": ("812,836", "6.524", MOBILE, 1280),
    "shufflenet_v1": ("949,258", "38.691", SHUFFLE_V1, 960),
    "shufflenet_v2": ("1,355,528", "44.504", SHUFFLE_V2, 1024),
    "resnet18": ("11,220,132", "555.469", BASIC, 512),
    "resnet34": ("21,328,292", "1159.449", BASIC, 512),
    "resnet50": ("23,705,252", "1298.014", BOTTLENECK, 2048),
}

# the same of a 224x224 image, with 1,000 classes; the ResNets are torchvision's
IMAGENET_TABLE: dict[str, tuple[str, str, Shapes, int]] = {
    "mobilenet_v1": ("4,231,976", "568.740", LARGE_MOBILE, 1024),
    "resnet18": ("11,689,512", "1814.073", LARGE_BASIC, 512),
    "resnet34": ("21,797,672", "3663.761", LARGE_BASIC, 512),
    "resnet50": ("25,557,032", "4089.184", LARGE_BOTTLENECK, 2048),
}

# sha256 over the sorted lines "name shape" of the published checkpoints' state with 100 classes
STATES = {
    "resnet8": "c7e36ff449432b48",
    "resnet14": "dc881d5570e2148d",
    "resnet20": "649926fcf6240e69",
    "resnet32": "eee1916dfc5fb1e3",
    "resnet44": "f532b91b42661858",
    "resnet56": "2fac08358d132b70",
    "resnet110": "c6e9176cff1a7fee",
    "resnet8x4": "c7572c24d425e097",
    "resnet32x4": "632a5be2e9d2198d",
    "resnet50": "1383964ae529a18c",
    "wrn_16_1": "c86622e01c0182ef",
    "wrn_16_2": "e6a57f3ddf2bbfc4",
    "wrn_40_1": "d0752782d5324ce6",
    "wrn_40_2": "cf299ba03b832625",
    "vgg8": "af0a4ac2401e1baa",
    "vgg11": "c01653e99717593a",
    "vgg13": "7ff3cbdb2a68220a",
    "vgg16": "671ffc473361af0f",
    "vgg19": "68d64a6eacb282aa",
    "mobilenet_v2": "da613af71c09a1df",
    "shufflenet_v1": "a6a7e5aaad503399",
    "shufflenet_v2": "453a84f2a0f166f6",
}


@cache  # nobody changes them
def build(name: str) -> models.Network:
    with torch.device("meta"):  # names and shapes need no values
        return getattr(models, name)(num_classes=100)


@pytest.mark.parametrize("name", TABLE)
def test_size_cost_and_maps_are_the_published_ones(name: str) -> None:
    network = build(name)
    measured = models.profile(network, image_size=32)
    figures = (f"{measured.parameters:,}", f"{measured.macs / 1e6:.3f}", measured.feature_shapes)
    assert (*figures, network.embedding_dim) == TABLE[name]


@pytest.mark.parametrize("name", IMAGENET_TABLE)
def test_size_cost_and_maps_on_imagenet(name: str) -> None:
    with torch.device("meta"):
        ours = name == "mobilenet_v1"
        network = models.mobilenet_v1() if ours else models.torchvision_network(name=name, num_classes=1000)
    measured = models.profile(network, image_size=224)
    figures = (f"{measured.parameters:,}", f"{measured.macs / 1e6:.3f}", measured.feature_shapes)
    assert (*figures, network.embedding_dim) == IMAGENET_TABLE[name]
    assert network.feature_channels == tuple(shape[0] for shape in measured.feature_shapes)
    assert network.num_classes == 1000


@pytest.mark.parametrize("name", STATES)
def test_state_names_and_shapes_are_those_of_published_checkpoints(name: str) -> None:
    state = build(name).state_dict()
    lines = "\n".join(sorted(f"{key} {list(value.shape)}" for key, value in state.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == STATES[name]


BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def norm(*names: str) -> set[str]:
    return {f"{name}.{entry}" for name in names for entry in BN}


PATTERNS: dict[str, set[str]] = {
    "resnet8x4": {"conv#.weight", "layer#.#.conv#.weight", "layer#.#.downsample.#.weight", "fc.weight", "fc.bias"}
    | norm("bn#", "layer#.#.bn#", "layer#.#.downsample.#"),
    "resnet18": {"conv#.weight", "layer#.#.conv#.weight", "layer#.#.shortcut.#.weight", "linear.weight", "linear.bias"}
    | norm("bn#", "layer#.#.bn#", "layer#.#.shortcut.#"),
    "wrn_28_4": {"conv#.weight", "block#.layer.#.conv#.weight", "block#.layer.#.convShortcut.weight"}
    | {"fc.weight", "fc.bias"}
    | norm("bn#", "block#.layer.#.bn#"),
    "vgg16": {"block#.#.weight", "block#.#.bias", "classifier.weight", "classifier.bias"} | norm("block#.#"),
    "mobilenet_v1": {"model.#.#.weight", "fc.weight", "fc.bias"} | norm("model.#.#"),
    "mobilenet_v2": {"conv#.#.weight", "blocks.#.#.conv.#.weight", "classifier.#.weight", "classifier.#.bias"}
    | norm("conv#.#", "blocks.#.#.conv.#"),
    "shufflenet_v1": {"conv#.weight", "layer#.#.conv#.weight", "linear.weight", "linear.bias"}
    | norm("bn#", "layer#.#.bn#"),
    "shufflenet_v2": {"conv#.weight", "layer#.#.conv#.weight", "linear.weight", "linear.bias"}
    | norm("bn#", "layer#.#.bn#"),
}
FAMILIES = {"resnet34": "resnet18", "resnet50": "resnet18", "wrn_16_4": "wrn_28_4", "wrn_28_2": "wrn_28_4"}


@pytest.mark.parametrize("name", [*PATTERNS, *FAMILIES])
def test_a_family_names_its_layers_as_its_checkpoints_do(name: str) -> None:
    """What the digests say of the published ones, in words, and also for those that nobody published."""
    names = {re.sub(r"\d+", "#", key) for key in build(name).state_dict()}
    assert names == PATTERNS[FAMILIES.get(name, name)]


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("plain_cnn", 177_114, 11_539_232), ("resnet_1m", 1_354_202, 189_482_400)],
)
def test_the_small_study(name: str, parameters: int, macs: int) -> None:
    measured = models.profile(getattr(models, name)(), image_size=32)  # ten classes unless told otherwise
    assert (measured.parameters, measured.macs) == (parameters, macs)


@pytest.mark.parametrize("name", [*TABLE, "mobilenet_v1", "wrn_28_2", "wrn_16_4", "wrn_28_4", "plain_cnn", "resnet_1m"])
def test_no_classes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="num_classes must be >= 1, got 0"):
        getattr(models, name)(num_classes=0)
