"""`distill models`: exact figures, without data, for any network that can be named."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.cli import main as command
from distill.cli.arguments import FINISHED, REFUSED
from distill.config import configs_dir

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill models` with these words; return the exit code."""
    return command(["models", *words])


# paper.md's table, for CIFAR-100; the last two are those of the small study
FIGURES = {
    "resnet8": (83_892, 12_507_392),
    "resnet14": (181_108, 26_663_168),
    "resnet20": (278_324, 40_818_944),
    "resnet32": (472_756, 69_130_496),
    "resnet44": (667_188, 97_442_048),
    "resnet56": (861_620, 125_753_600),
    "resnet110": (1_736_564, 253_155_584),
    "resnet8x4": (1_233_540, 177_071_104),
    "resnet32x4": (7_433_860, 1_083_040_768),
    "plain_cnn": (184_404, 11_546_432),
    "resnet_1m": (1_367_252, 189_495_360),
}
RESNET8 = "resnet8\t83892\t12507392\t64\t16x32x32 16x32x32 32x16x16 64x8x8"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without any data, from which modules may be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


def listed(capsys: Capture, *words: str) -> dict[str, Any]:
    """The JSON of `distill models`."""
    assert main([*words, "--format", "json"]) == FINISHED
    return json.loads(capsys.readouterr().out)


def test_every_preset_with_its_exact_figures(capsys: Capture, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "student"
    mine.mkdir(parents=True)
    Path("own_nets.py").write_text("from distill.models import resnet14 as net\n")
    (mine / "my_net.yaml").write_text("_target_: own_nets.net\n")
    (mine / "broken.yaml").write_text("_target_: distill.models.resnet14\nwidth: 3\n")
    (own,) = listed(capsys, "student._target_=own_nets.net")["models"]
    assert (own["name"], own["parameters"], own["macs"]) == ("net", *FIGURES["resnet14"])
    told = listed(capsys, "--config-dir", str(mine.parent))
    assert (told["dataset"], told["classes"], told["image_size"]) == ("cifar100", 100, 32)
    found = {model["name"]: (model["parameters"], model["macs"]) for model in told["models"]}
    assert found | FIGURES == found  # the other families' figures are tests/models/test_published_figures.py's
    assert found["my_net"] == FIGURES["resnet14"]
    shipped = {path.stem for path in (configs_dir() / "student").glob("*.yaml")} - {"timm", "torchvision"}
    assert found.keys() == {*shipped, "my_net"}
    names = [model["name"] for model in told["models"]]
    assert names.index("resnet8") < names.index("resnet14") < names.index("resnet110")
    resnet32x4 = told["models"][names.index("resnet32x4")]
    assert resnet32x4["features"] == [[32, 32, 32], [64, 32, 32], [128, 16, 16], [256, 8, 8]]
    assert resnet32x4["embedding"] == 256
    broken, timm, torchvision = told["notes"]
    assert broken.startswith("broken is not counted: student.width is not a key")
    assert timm == "timm is any network you name: distill models student=timm student.name=NAME"
    assert torchvision.startswith("torchvision is any network you name")


def test_plain_lines_csv_and_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["student=resnet8,plain_cnn"]) == FINISHED
    header, resnet8, plain_cnn = capsys.readouterr().out.splitlines()
    assert header == "network\tparameters\tMACs\tembedding\tfeatures"
    assert resnet8 == RESNET8
    assert plain_cnn.startswith("plain_cnn\t184404\t11546432\t80\t")
    assert main(["student=resnet8", "--format", "csv"]) == FINISHED
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["macs"], row["features"]) == ("12507392", "16x32x32 16x32x32 32x16x16 64x8x8")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["student=resnet8", "--out", "models.md"]) == FINISHED
    assert Path("models.md").read_text().startswith("cifar100: 100 classes, images of 32x32 pixels\n\n| network |")
    assert main(["student=resnet8", "--out", "models.html"]) == FINISHED
    assert "<caption>cifar100: 100 classes, images of 32x32 pixels</caption>" in Path("models.html").read_text()


@pytest.mark.parametrize(
    ("words", "shape", "figures"),
    [
        (["dataset=cifar10"], (10, 32), (78_042, 12_501_632)),
        (["dataset=digits"], (10, 32), (78_042, 12_501_632)),
        (["dataset=synthetic", "dataset.classes=7", "+dataset.image_size=16"], (7, 16), (77_847, 3_125_696)),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_other_data(words: list[str], shape: tuple[int, int], figures: tuple[int, int], capsys: Capture) -> None:
    told = listed(capsys, *words, "student=resnet8")
    assert (told["classes"], told["image_size"]) == shape
    assert [(model["parameters"], model["macs"]) for model in told["models"]] == [figures]


def test_networks_of_timm_by_name(capsys: Capture) -> None:
    told = listed(capsys, "student=timm", "student.name=resnet18")
    (resnet18,) = told["models"]
    assert resnet18["name"] == "timm name=resnet18"
    assert resnet18["parameters"] == 11_227_812
    assert resnet18["features"][-1] == [512, 1, 1]
    vit = ["student=timm", "student.name=vit_tiny_patch16_224"]
    assert main(vit) == REFUSED
    assert "does not take images of 32 x 32 pixels" in capsys.readouterr().err
    (small,) = listed(capsys, *vit, "+student.img_size=32", "+student.patch_size=4")["models"]
    assert small["parameters"] == 5_380_132


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["student=resnet9"], ["student=resnet9 does not exist: did you mean 'resnet8'?"]),
        (["student=timm"], ["student.name has no value yet: set student.name=VALUE"]),
        (["student.name=resnet18"], ["student.name belongs to one network: add student=NAME"]),
        (["dataset=arrays", "student=resnet8"], ["dataset.npz has no value yet: set dataset.npz=VALUE"]),
        (["dataset=arrays", "student=resnet8", "dataset.npz=none.npz"], ["there is no file none.npz"]),
        (["dataset=cifar10,digits"], ["names several values: choose one"]),
        (["--config-dir", "nowhere"], ["--config-dir 'nowhere' is not a folder"]),
        (
            ["loss.temperature=2"],
            ["unknown key 'loss.temperature' in 'loss.temperature=2': there are dataset, runs_dir, student"],
        ),
        (
            ["student=timm", "student.nmae=x", "dataset=synthetic", "dataset.clases=x"],
            [
                "dataset.clases is not a key of distill.data.synthetic: did you mean 'classes'?",
                "student.name has no value yet",
            ],
        ),
        (
            ["datset=digits", "--fromat", "csv"],
            [
                "unknown key 'datset' in 'datset=digits': did you mean 'dataset'?",
                "unknown option --fromat: did you mean '--format'?",
            ],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(words: list[str], sentences: list[str], capsys: Capture) -> None:
    assert main(words) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    for sentence in sentences:
        assert sentence in told.err
    assert len(told.err.splitlines()) == len(sentences)
