"""`distill import` of other people's files: measured, claimed, refused, and what the run is good for."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from distill.cli import main
from distill.cli.arguments import FINISHED, REFUSED
from distill.models import resnet8, resnet20

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
SMALL = ["dataset=synthetic", "dataset.train_size=40", "dataset.test_size=50", "dataset.image_size=8"]


pytestmark = pytest.mark.usefixtures("empty_folder")


def cifar10(path: str, *, seed: int = 0) -> str:
    """A file that passes for CIFAR-10: 20 training and 30 test images."""
    random = np.random.RandomState(seed)
    parts: dict[str, Any] = {}
    for part, size in (("train", 20), ("test", 30)):
        images = random.randint(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        parts |= {f"x_{part}": images, f"y_{part}": np.arange(size) % 10}
    np.savez(path, **parts)
    return path


def bring(*words: str) -> int:
    """The exit code of `distill import`."""
    return main(["import", *words, "engine.device=cpu"])


def only_run(where: str = "runs") -> Path:
    """The one run there is."""
    (run,) = Path(where).iterdir()
    return run


def of(run: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A run's config, result and provenance."""
    content = yaml.safe_load((run / "config.yaml").read_text())
    return content, *(json.loads((run / name).read_text()) for name in ("result.json", "provenance.json"))


def test_a_run_is_made_listed_measured_and_tabulated(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save({"epoch": 240, "model": weights, "accuracy": torch.tensor([10.0])}, "ckpt.pth")
    assert bring("ckpt.pth", "student=resnet8", *SMALL) == FINISHED
    run = only_run()
    config, result, provenance = of(run)
    assert run.name == f"resnet8-imported-s0-{config['run_id']}"
    stored = safetensors.torch.load_file(run / "student.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())
    assert provenance["imported"]["file"] == "ckpt.pth"
    assert provenance["imported"]["epoch"] == result["last"]["epoch"] == 240
    assert result["imported"] == {"accuracy": "measured", "claimed": 10.0, "claimed_as": "accuracy"}
    assert result["last"]["count"] == 50
    capsys.readouterr()
    assert main(["ls", "--format", "json"]) == FINISHED
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert (entry["status"], entry["loss"], entry["student"]) == ("finished", "imported", "resnet8")
    assert entry["accuracy"] == result["last"]["accuracy"]
    assert main(["evaluate", f"run={config['run_id']}", "engine.device=cpu", "--format", "json"]) == FINISHED
    assert json.loads(capsys.readouterr().out)["agrees"] is True
    assert main(["table", "--format", "json"]) == FINISHED
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["method"], row["recipe"], row["n"]) == ("imported", "imported", 1)


def test_the_same_weights_are_the_same_run_whatever_the_file(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save(weights, "plain.pth")
    assert bring("plain.pth", "student=resnet8", *SMALL) == FINISHED
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    others = {f"module.student.{name}": tensor for name, tensor in weights.items()}
    torch.save({"model": others, "best_acc": np.float64(99.0)}, "latest", _use_new_zipfile_serialization=False)
    double = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    safetensors.torch.save_file(double, "double.safetensors")
    capsys.readouterr()
    for name in ("plain.pth", "latest", "double.safetensors"):
        assert bring(name, "student=resnet8", *SMALL) == FINISHED
        told = capsys.readouterr()
        assert "is there already: test " in told.out
        assert ("warning: latest states 99.00 % under best_acc" in told.err) == (name == "latest")
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before
    assert bring("plain.pth", "student=resnet8", *SMALL[:-1], "dataset.image_size=16") == FINISHED
    weights["fc.bias"][0] += 1
    torch.save(weights, "plain.pth")
    assert bring("plain.pth", "student=resnet8", *SMALL) == FINISHED
    assert len(list(Path("runs").iterdir())) == 3
    assert main(["table", "--format", "json"]) == FINISHED


def test_a_claim_is_marked_until_it_is_measured(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save({"model": weights, "acc": 61.5}, "x.pth")
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == FINISHED
    assert "not measured" in capsys.readouterr().out
    run = only_run()
    config, result, _ = of(run)
    assert config["names"]["loss"] == "imported accuracy=claimed"
    assert (result["imported"]["accuracy"], result["last"]) == ("claimed", {"epoch": 0, "accuracy": 61.5})
    assert main(["table", "--format", "csv"]) == FINISHED
    assert "imported (accuracy=claimed)" in capsys.readouterr().out
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == FINISHED
    assert "is there already: test 61.50 % (claimed)" in capsys.readouterr().out

    assert bring("x.pth", "student=resnet8", "dataset=cifar10", f"dataset.npz={cifar10('c10.npz')}") == FINISHED
    told = capsys.readouterr()
    assert "warning: x.pth states 61.50 % under acc, measured are" in told.err
    assert only_run() == run
    config, result, _ = of(run)
    assert config["names"]["loss"] == "imported"
    assert result["imported"] == {"accuracy": "measured", "claimed": 61.5, "claimed_as": "acc"}
    assert result["last"]["count"] == 30
    assert main(["evaluate", f"run={run.name}", "engine.device=cpu", "--format", "json"]) == FINISHED
    assert json.loads(capsys.readouterr().out)["agrees"] is True


@pytest.mark.parametrize(("images_off", "warned"), [(2, False), (3, True)])
def test_a_claim_may_be_two_images_off(weights: dict[str, Any], images_off: int, warned: bool, capsys: Capture) -> None:
    torch.save(weights, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    accuracy = of(only_run())[1]["last"]["accuracy"]
    torch.save({"model": weights, "accuracy": accuracy + images_off * 2}, "y.pth")
    assert bring("y.pth", "student=resnet8", *SMALL, "runs_dir=others") == FINISHED
    assert ("warning" in capsys.readouterr().err) == warned


def test_without_data_and_claim_there_is_no_run(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save(weights, "x.pth")
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == REFUSED
    assert "states no accuracy, and the data to measure its weights are not here" in capsys.readouterr().err
    torch.save({"model": weights, "best_acc": 61.5}, "x.pth")  # of another epoch, perhaps
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == REFUSED
    assert "states the best accuracy of its training only (best_acc), and the data" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_run_teaches(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save({"net": weights, "acc": 12.0}, "x.pth")
    data = f"dataset.npz={cifar10('c10.npz')}"
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == FINISHED
    teacher = only_run()
    words = ["dataset=cifar10", data, f"teacher.run={of(teacher)[0]['run_id']}", "student=resnet8", "loss=kd"]
    assert main(["train", *words, "recipe=cifar", "recipe.epochs=1", "engine.device=cpu"]) == FINISHED
    (student,) = Path("runs").glob("resnet8-kd-*")
    config, result, _ = of(student)
    digest = of(teacher)[1]["weights_sha256"]
    assert config["identity"]["teacher"] == {"weights": digest}
    assert result["teacher"]["weights_sha256"] == digest
    assert len(list(Path("runs").glob("resnet8-*"))) == 2


def test_files_of_torch_0_4_lack_batchnorms_counters(weights: dict[str, Any]) -> None:
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save({"model": old}, "x.pth", _use_new_zipfile_serialization=False)
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    stored = safetensors.torch.load_file(only_run() / "student.safetensors")
    assert set(stored) == set(weights)


def test_a_network_of_timm_out_of_a_file() -> None:
    import timm

    network = timm.create_model("resnet10t", num_classes=10)
    torch.save(network.state_dict(), "x.pth")
    assert bring("x.pth", "student=timm", "student.name=resnet10t", "student.pretrained=true", *SMALL) == FINISHED
    run = only_run()
    assert run.name.startswith("timm_network.resnet10t-imported-s0-")
    assert of(run)[0]["config"]["student"]["pretrained"] is False


def test_a_path_may_look_like_a_key(weights: dict[str, Any]) -> None:
    Path("KD,T=4").mkdir()
    torch.save(weights, "KD,T=4/student_best")
    torch.save(weights, "T=4")
    assert bring("KD,T=4/student_best", "student=resnet8", *SMALL) == FINISHED
    assert bring("T=4", "student=resnet8", *SMALL) == FINISHED
    assert only_run()


def test_another_network_is_told_with_the_one_that_fits(capsys: Capture) -> None:
    torch.save({"model": resnet20(num_classes=10).state_dict(), "best_acc": 70.0}, "x.pth")
    assert bring("x.pth", "student=resnet8", "dataset=cifar10") == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0] == "x.pth does not fit student=resnet8 (tensors 72 unknown to the network): it fits student=resnet20"
    )
    assert lines[1] == "  layer1.1.conv1.weight: 16x16x3x3 in the file, unknown"
    assert len(lines) == 12
    assert lines[-1] == "  and 62 more"
    assert bring("x.pth", "student=resnet20", "dataset=cifar100") == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert "it has 10 classes where the data set has 100" in lines[0]
    assert lines[1:] == [
        "  fc.weight: 10x64 in the file, 100x64 in the network",
        "  fc.bias: 10 in the file, 100 in the network",
    ]
    assert not Path("runs").exists()


def test_values_that_are_no_weights(weights: dict[str, Any], capsys: Capture) -> None:
    torch.save({**weights, "fc.bias": torch.arange(10)}, "whole.pth")
    torch.save({**weights, "fc.bias": torch.full((10,), torch.nan)}, "nan.pth")
    for name, sentence in (("whole.pth", "fc.bias holds int64, no weights"), ("nan.pth", "fc.bias holds values that")):
        assert bring(name, "student=resnet8", *SMALL) == REFUSED
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("head", ["model.", "net.", "backbone.", "module.model.", "encoder.body."])
def test_what_all_names_begin_with_is_left_out(weights: dict[str, Any], head: str) -> None:
    torch.save({f"{head}{name}": tensor for name, tensor in weights.items()}, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    stored = safetensors.torch.load_file(only_run() / "student.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())


def test_a_classifier_may_have_another_name(weights: dict[str, Any]) -> None:
    torch.save({name.replace("fc.", "linear."): tensor for name, tensor in weights.items()}, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    stored = safetensors.torch.load_file(only_run() / "student.safetensors")
    assert torch.equal(stored["fc.weight"], weights["fc.weight"])


def test_averaged_weights_in_the_file_are_named_and_can_be_chosen(weights: dict[str, Any], capsys: Capture) -> None:
    averaged = {f"module.{name}": tensor / 2 for name, tensor in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": averaged, "optimizer": {"state": {}}}, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    told = capsys.readouterr().out
    assert "it holds other weights of this network under state_dict_ema: state=state_dict_ema imports them" in told
    assert bring("x.pth", "student=resnet8", *SMALL, "state=state_dict_ema", "runs_dir=averaged") == FINISHED
    stored = safetensors.torch.load_file(only_run("averaged") / "student.safetensors")
    assert torch.equal(stored["fc.weight"], weights["fc.weight"] / 2)
    assert bring("x.pth", "student=resnet8", *SMALL, "state=ema") == REFUSED
    assert "x.pth holds no state dict under ema; its keys are state_dict, state_dict_ema" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "best"), [("best_prec1", True), ("best_acc", True), ("prec1", False), ("metric", False)]
)
def test_claims_by_their_usual_names(weights: dict[str, Any], key: str, best: bool) -> None:
    """That of the best epoch stands under best, beside what the weights measure."""
    torch.save({"state_dict": weights, key: 99.5}, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == FINISHED
    result = of(only_run())[1]
    assert (result["imported"]["claimed"], result["imported"]["claimed_as"]) == (99.5, key)
    assert result["last"]["count"] == 50
    assert result["best"] == ({"epoch": 0, "accuracy": 99.5} if best else result["last"])


def test_variances_below_zero_are_refused(weights: dict[str, Any], capsys: Capture) -> None:
    weights["bn1.running_var"][3] = -0.5
    torch.save(weights, "x.pth")
    assert bring("x.pth", "student=resnet8", *SMALL) == REFUSED
    assert "x.pth: bn1.running_var holds variances below 0" in capsys.readouterr().err


def test_padded_shortcuts_are_a_key_of_the_cifar_resnets(capsys: Capture) -> None:
    torch.manual_seed(1)
    state = resnet8(num_classes=10, shortcut="padding").state_dict()
    torch.save({f"module.{name}".replace("fc.", "linear."): tensor for name, tensor in state.items()}, "a.th")
    assert bring("a.th", "student=resnet8", *SMALL) == REFUSED
    assert "it fits student=resnet8 student.shortcut=padding" in capsys.readouterr().err
    assert bring("a.th", "student=resnet8", "student.shortcut=padding", *SMALL) == FINISHED


def test_a_class_of_ones_own_is_enough(weights: dict[str, Any]) -> None:
    """It is found in the current folder, its data set is of the package, and its preset is not needed."""
    Path("own_net_for_import.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, num_classes: int = 10):\n"
        "        super().__init__()\n        self.net = nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n\n"
        "    def forward(self, images):\n        return self.net(images)\n"
    )
    torch.save({"model.net.1.weight": torch.zeros(10, 192), "model.net.1.bias": torch.zeros(10)}, "x.pth")
    assert bring("x.pth", "student._target_=own_net_for_import.Net", *SMALL) == FINISHED
    assert of(only_run())[0]["config"]["student"]["_target_"] == "own_net_for_import.Net"


WEIGHTS = os.environ.get("DISTILL_TEST_WEIGHTS", "")


@pytest.mark.data
@pytest.mark.skipif(not WEIGHTS, reason="needs published weights: set DISTILL_TEST_WEIGHTS to their folder")
def test_published_weights_with_padded_shortcuts_measure_what_is_stated(capsys: Capture) -> None:
    """akamaster/pytorch_resnet_cifar10's resnet20, on the 9,977 of CIFAR-10's test images that its authors' figure has
    in common with them; trained with ImageNet's normalisation."""
    data = [f"dataset.npz={os.environ['DISTILL_TEST_CIFAR10']}", "dataset.mean=[.485,.456,.406]"]
    words = ["student=resnet20", "student.shortcut=padding", "dataset=cifar10", *data, "dataset.std=[.229,.224,.225]"]
    assert bring(f"{WEIGHTS}/cifar10_resnet20_option_a.th", *words) == FINISHED
    assert of(only_run())[1]["last"]["accuracy"] == pytest.approx(91.73, abs=0.005)
