"""One contract for every preset of configs/student: a new file there is tested by being there."""

import copy
import importlib
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from distill.models import Network, Output, outline, profile

PRESETS = sorted((Path(__file__).resolve().parents[2] / "configs" / "student").glob("*.yaml"))
STATED = re.compile(r"([\d,]+) parameters, ([\d.]+) M MACs \((\d+) classes, 32x32\)")

# Small images keep the suite quick, where the network still has more than a pixel left at its end.
SMALL = 16
SIZES = {"mobilenet_v2": 32, "deit_tiny": 32, "pit_tiny": 32}
# What fills the `???` of presets that stand for a whole library, with the image size that suits it.
SAMPLES: dict[str, list[tuple[dict[str, Any], int]]] = {
    "timm": [
        ({"name": "resnet18", "zero_init_last": False}, 64),  # else the first step leaves most weights alone
        ({"name": "mobilenetv3_small_050"}, 64),
        ({"name": "test_vit", "img_size": 32, "patch_size": 8}, 32),
        ({"name": "test_vit", "img_size": 32, "patch_size": 8, "input_size": 32}, 16),
    ],
    "torchvision": [({"name": "resnet18"}, 64), ({"name": "mobilenet_v3_small"}, 64)],
}


@dataclass(frozen=True)
class Case:
    stated: tuple[str, str] | None  # parameters and MACs as the preset's comment gives them
    classes: int
    build: Callable[[], Network]
    network: Network
    images: Tensor

    def fresh(self) -> Network:
        """A copy to train or to break."""
        return copy.deepcopy(self.network)


def samples() -> Iterator[Any]:
    for preset in PRESETS:
        for options, image_size in SAMPLES.get(preset.stem, [({}, SIZES.get(preset.stem, SMALL))]):
            name = ":".join([preset.stem, *map(str, options.values())])
            yield pytest.param((preset, options, image_size), id=name)


@pytest.fixture(scope="module", params=samples())
def case(request: pytest.FixtureRequest) -> Case:
    preset, options, image_size = request.param
    stated = STATED.search(preset.read_text())
    classes = int(stated[3]) if stated else 7
    arguments = yaml.safe_load(preset.read_text()) | options
    module, _, name = arguments.pop("_target_").rpartition(".")
    target = getattr(importlib.import_module(module), name)

    def build() -> Network:
        network: Network = target(num_classes=classes, **arguments)
        return network

    torch.manual_seed(0)
    figures = (stated[1], stated[2]) if stated else None
    return Case(figures, classes, build, build().eval(), torch.randn(2, 3, image_size, image_size))


def shapes(output: Output) -> list[Any]:
    parts = (output.logits, output.final_map, output.embedding, *output.features, *output.preactivations)
    return [None if part is None else part.shape for part in parts]


@pytest.fixture(scope="module")
def tapped(case: Case) -> Output:
    with torch.no_grad():
        return case.network(case.images, taps=True)


@pytest.fixture(scope="module")
def untapped(case: Case) -> Output:
    with torch.no_grad():
        return case.network(case.images)


def test_logits_have_one_column_a_class(case: Case, untapped: Output) -> None:
    assert case.network.num_classes == case.classes
    assert untapped.logits.shape == (2, case.classes)
    assert untapped.logits.dtype == torch.float32


def test_declared_channels_are_the_channels(case: Case, tapped: Output) -> None:
    assert case.network.feature_channels
    assert tuple(f.shape[1] for f in tapped.features) == case.network.feature_channels
    assert all(f.ndim == 4 and f.shape[0] == 2 for f in tapped.features)
    assert len(tapped.preactivations) == len(tapped.features)


def test_maps_narrow_towards_the_final_map(case: Case, tapped: Output) -> None:
    widths = [f.shape[-1] for f in tapped.features]
    assert widths == sorted(widths, reverse=True)
    assert tapped.final_map is not None
    assert tapped.final_map.shape[2:] == tapped.features[-1].shape[2:]


def test_embedding_has_the_declared_dimension(case: Case, tapped: Output) -> None:
    assert tapped.embedding is not None
    assert tapped.embedding.shape == (2, case.network.embedding_dim)
    assert case.network.embedding_dim > 0


def test_logits_are_the_heads_of_the_embedding(case: Case, tapped: Output) -> None:
    head = case.network.head
    assert tapped.embedding is not None
    if head is not None:
        assert isinstance(head, nn.Linear)
        assert any(module is head for module in case.network.modules())
        with torch.no_grad():
            torch.testing.assert_close(head(tapped.embedding), tapped.logits)


def test_a_preactivation_belongs_to_its_feature(case: Case, tapped: Output) -> None:
    """The feature is its ReLU, unless the network says that it distils raw maps; then it is not."""
    for before, feature in zip(tapped.preactivations, tapped.features, strict=True):
        if before is not None:
            assert before.shape == feature.shape
            assert torch.equal(before.relu(), feature) == case.network.features_are_activated
            assert (before < 0).any(), "a preactivation must not be an activated map under another name"
            assert (feature < 0).any() != case.network.features_are_activated


def test_outline_tells_the_shapes(case: Case, tapped: Output) -> None:
    told = outline(case.network, image_size=case.images.shape[-1])
    assert told.logits.device.type == "meta"
    assert shapes(told) == shapes(tapped)


def test_without_taps_there_is_nothing_but_logits(untapped: Output) -> None:
    assert untapped.features == ()
    assert untapped.preactivations == ()
    assert untapped.final_map is None
    assert untapped.embedding is None
    assert untapped.strong is None


@pytest.mark.parametrize("taps", [False, True])
def test_maps_live_only_as_long_as_taps_ask_for(case: Case, taps: bool) -> None:
    maps: list[weakref.ref[Tensor]] = []

    def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 2 and output is not case.images:
            maps.append(weakref.ref(output))

    handles = [module.register_forward_hook(watch) for module in case.network.modules()]
    with torch.no_grad():
        output = case.network(case.images, taps=taps)
    for handle in handles:
        handle.remove()
    alive = [reference for reference in maps if reference() is not None]
    assert output.logits is not None  # the output itself is still held here
    assert maps
    assert bool(alive) == taps


def test_evaluation_is_deterministic_and_taps_change_nothing(case: Case, untapped: Output, tapped: Output) -> None:
    with torch.no_grad():
        again = case.network(case.images)
    assert torch.equal(untapped.logits, again.logits)
    assert torch.equal(untapped.logits, tapped.logits)


def test_state_round_trip(case: Case, untapped: Output) -> None:
    with torch.device("meta"):  # no values but those that the state brings
        other = case.build().eval()
    other.load_state_dict(case.network.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(other(case.images).logits, untapped.logits)


def test_one_training_step_moves_every_parameter(case: Case) -> None:
    """Forward, cross-entropy, backward, SGD: a gradient for every parameter, and nothing infinite afterwards."""
    network = case.fresh().train()
    for module in network.modules():
        if type(module).__name__ == "DropPath":  # it may silence a block for both images
            module.eval()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    loss = F.cross_entropy(network(case.images).logits, torch.tensor([0, 1]))
    loss.backward()
    assert bool(loss.isfinite())
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    before = dict(case.network.named_parameters())
    for name, parameter in network.named_parameters():
        assert bool(parameter.isfinite().all()), name
        # Biases that a normalisation or a softmax takes out again have no gradient but rounding.
        assert parameter.ndim < 2 or not torch.equal(parameter, before[name]), name
    assert all(bool(buffer.isfinite().all()) for buffer in network.buffers())


def test_gradient_of_the_last_tap_reaches_the_first_layer(case: Case) -> None:
    network = case.fresh().train()
    final_map = network(case.images, taps=True).final_map
    assert final_map is not None
    final_map.square().mean().backward()
    first = next(p for p in network.parameters() if p.ndim == 4)
    assert first.grad is not None
    assert bool(first.grad.any())


def test_profile_agrees_with_the_network_and_its_preset(case: Case, tapped: Output) -> None:
    measured = profile(case.network, image_size=case.images.shape[-1])
    assert measured.parameters == sum(p.numel() for p in case.network.parameters())
    assert measured.feature_shapes == tuple(tuple(f.shape[1:]) for f in tapped.features)
    assert measured.macs > 0
    if case.stated:
        measured = profile(case.network, image_size=32)
        assert (f"{measured.parameters:,}", f"{measured.macs / 1e6:.1f}") == case.stated
