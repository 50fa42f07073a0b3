"""timm's networks behind the contract: what they share is in test_network_contract.py."""

from typing import Any

import pytest
import timm
import torch
from torch.nn import functional as F

from distill.models import timm_network


def images(size: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, size, size)


def test_it_is_timms_network_with_its_feature_maps() -> None:
    network = timm_network(name="test_resnet", num_classes=7).eval()
    plain: Any = timm.create_model("test_resnet", num_classes=7).eval()
    plain.load_state_dict(network.network.state_dict())
    batch = images(64)
    with torch.no_grad():
        output = network(batch, taps=True)
        assert torch.equal(output.logits, plain(batch))
        final, maps = plain.forward_intermediates(batch)
    assert all(torch.equal(a, b) for a, b in zip(output.features, maps, strict=True))
    assert output.final_map is not None
    assert torch.equal(output.final_map, final)
    assert network.feature_channels == (32, 32, 48, 192, 96)


def test_embedding_is_what_the_classifier_reads() -> None:
    network = timm_network(name="mobilenetv3_small_050", num_classes=7).eval()
    classifier: Any = network.network.get_submodule("classifier")
    with torch.no_grad():
        output = network(images(64), taps=True)
        assert output.embedding is not None
        torch.testing.assert_close(F.linear(output.embedding, classifier.weight, classifier.bias), output.logits)


def test_embedding_is_the_one_that_dropout_thinned() -> None:
    network = timm_network(name="test_resnet", num_classes=7, drop_rate=0.5).train()
    output = network(images(64), taps=True)
    classifier: Any = network.network.get_submodule("fc")
    assert output.embedding is not None
    torch.testing.assert_close(classifier(output.embedding), output.logits)


def test_a_vit_gives_its_token_grid_as_maps() -> None:
    network = timm_network(name="test_vit", num_classes=7, img_size=32, patch_size=8).eval()
    vit: Any = network.network
    batch = images(32)
    with torch.no_grad():
        output = network(batch, taps=True)
        tokens = vit.forward_features(batch)  # (B, prefix + 16, C)
    assert all(f.shape == (2, 64, 4, 4) for f in output.features)
    assert output.final_map is not None
    assert torch.equal(output.final_map.flatten(2).transpose(1, 2), tokens[:, vit.num_prefix_tokens :])


def test_maps_of_a_channels_last_network_are_turned() -> None:
    network = timm_network(
        name="swin_tiny_patch4_window7_224",
        num_classes=7,
        img_size=64,
        window_size=2,
        embed_dim=24,
        depths=(1, 1, 1, 1),
    ).eval()
    with torch.no_grad():
        output = network(images(64), taps=True)
    assert output.final_map is not None
    assert output.final_map.shape == (2, 192, 2, 2)
    assert tuple(f.shape[1] for f in output.features) == network.feature_channels == (24, 48, 96, 192)


def test_several_classifiers_give_their_inputs_side_by_side() -> None:
    name = "deit_tiny_distilled_patch16_224"
    network = timm_network(name=name, num_classes=7, img_size=32, depth=1).eval()
    with torch.no_grad():
        output = network(images(32), taps=True)
    assert output.embedding is not None
    assert output.embedding.shape == (2, network.embedding_dim) == (2, 2 * 192)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"name must be a timm network, got 'resnet_18': did you mean .*resnet18"):
        timm_network(name="resnet_18", num_classes=7)


def test_a_hub_address_is_no_name() -> None:
    with pytest.raises(ValueError, match="name must be a timm network, got 'hf-hub:someone/network'"):
        timm_network(name="hf-hub:someone/network", num_classes=7)


def test_an_unknown_tag_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'resnet18.a1_in2k': did you mean .*resnet18.a1_in1k"):
        timm_network(name="resnet18.a1_in2k", num_classes=7)


def test_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="which has none: set pretrained=false"):
        timm_network(name="resnetblur18", num_classes=7, pretrained=True)


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_weights_from_anywhere_else_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"by name only, got {option}: set pretrained=true"):
        timm_network(name="resnet18", num_classes=7, **{option: "weights.pth"})


def test_pretrained_asks_timms_own_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    create = timm.create_model

    def offline(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.append((name, {"pretrained": pretrained, **options}))
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    timm_network(name="test_resnet.r160_in1k", num_classes=7, pretrained=True)
    assert asked == [("test_resnet.r160_in1k", {"pretrained": True, "num_classes": 7})]


def test_an_option_the_network_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resnet18 must accept its options, got drop_rat=0.1: .*drop_rat"):
        timm_network(name="resnet18", num_classes=7, drop_rat=0.1)
