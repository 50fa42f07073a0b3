"""Images for a network that wants another resolution and another normalisation than the data set's."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.models import Inputs, profile, timm_network

DATA: dict[str, Any] = {"data_mean": (0.5, 0.4, 0.3), "data_std": (0.2, 0.25, 0.3)}
WEIGHTS: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIT: dict[str, Any] = {"name": "test_vit", "img_size": 32, "patch_size": 8, "num_classes": 7}


def per_channel(values: Any) -> torch.Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def test_without_options_the_images_stay() -> None:
    images = torch.randn(2, 3, 16, 16)
    inputs = Inputs()
    assert inputs(images) is images
    assert inputs.state_dict() == {}


def test_images_that_a_stream_has_rounded_are_computed_with_in_full() -> None:
    images = torch.randn(2, 3, 8, 8).to(torch.bfloat16)
    inputs = Inputs(size=16, **WEIGHTS, **DATA)
    assert inputs(images).dtype == torch.float32
    assert torch.equal(inputs(images), inputs(images.float()))


def test_images_are_resized_as_pillow_resizes() -> None:
    plane = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    resized = Inputs(size=56)(plane.expand(1, 3, 16, 16))
    expected = np.asarray(Image.fromarray(plane[0, 0].numpy()).resize((56, 56), Image.Resampling.BICUBIC))
    assert resized.shape == (1, 3, 56, 56)
    torch.testing.assert_close(resized[0, 0], torch.from_numpy(expected.copy()), atol=1e-5, rtol=0)


def test_images_of_the_right_size_are_not_resampled() -> None:
    images = torch.randn(2, 3, 16, 16)
    assert Inputs(size=16)(images) is images


def test_another_normalisation_takes_the_place_of_the_data_sets() -> None:
    raw = torch.rand(2, 3, 16, 16)
    given = (raw - per_channel(DATA["data_mean"])) / per_channel(DATA["data_std"])
    wanted = (raw - per_channel(WEIGHTS["mean"])) / per_channel(WEIGHTS["std"])
    torch.testing.assert_close(Inputs(**DATA, **WEIGHTS)(given), wanted)


def test_resizing_and_renormalising_commute() -> None:
    given = torch.randn(2, 3, 16, 16)
    both = Inputs(size=40, **DATA, **WEIGHTS)(given)
    torch.testing.assert_close(both, Inputs(**DATA, **WEIGHTS)(Inputs(size=40)(given)))


def test_the_network_resizes_what_it_reads_and_nobody_else_sees_it() -> None:
    torch.manual_seed(0)
    network = timm_network(**VIT, input_size=32, **DATA, **WEIGHTS).eval()
    plain: Any = network.network
    images = torch.randn(2, 3, 16, 16)
    kept = images.clone()
    with torch.no_grad():
        output = network(images, taps=True)
        assert torch.equal(output.logits, plain(Inputs(size=32, **DATA, **WEIGHTS)(images)))
        assert torch.equal(network(images).logits, output.logits)
        assert not torch.equal(plain(Inputs(size=32)(images)), output.logits)
    assert torch.equal(images, kept)


def test_its_state_keeps_the_normalisation() -> None:
    network = timm_network(**VIT, input_size=32, **DATA, **WEIGHTS).eval()
    other = timm_network(**VIT, input_size=32, data_mean=(0, 0, 0), data_std=(1, 1, 1), **WEIGHTS).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(other(images).logits, network(images).logits)


def test_its_cost_is_that_of_the_larger_image_with_attention() -> None:
    """DeiT-Ti on CIFAR: ViT-Ti/16 at 224 pixels, written out."""
    with torch.device("meta"):
        network = timm_network(name="deit_tiny_patch16_224", num_classes=100, input_size=224)
    tokens, width, depth = 197, 192, 12
    linear = depth * tokens * 12 * width**2
    attention = depth * 2 * tokens**2 * width
    assert profile(network, image_size=32).macs == 196 * 3 * 16**2 * width + linear + attention + width * 100


def test_the_published_number_of_parameters() -> None:
    """5.7 M and 4.9 M with the 1000 classes of ImageNet."""
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in timm_network(name=name, num_classes=1000).parameters()) / 1e6
            for name in ("deit_tiny_patch16_224", "pit_ti_224")
        ]
    assert sizes == pytest.approx([5.7, 4.9], abs=0.06)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "input_size must be >= 1, got 0: give the network's own number of pixels"),
        ({**WEIGHTS}, r"mean and std must come with the statistics they replace, got mean=\(0.485.*give all four"),
        ({"std": (1, 1, 1), **DATA}, r"got mean=None, std=\(1, 1, 1\).*give all four"),
        ({**WEIGHTS, **DATA, "std": (1, 0, 1)}, r"std must be > 0, got \(1, 0, 1\): give the standard deviation"),
        ({**WEIGHTS, **DATA, "data_std": (1, 0, 1)}, r"data_std must be > 0, got \(1, 0, 1\)"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Inputs(**options)
