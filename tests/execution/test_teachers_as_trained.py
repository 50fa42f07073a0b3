"""A teacher sees images as it was trained on them, and what its students see is held against its record."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from distill.cli import main
from distill.cli.arguments import FAILED, FINISHED
from distill.config.sweep import prepare
from distill.data import ImageStream
from distill.models import resnet8

DATA = ("dataset=synthetic", "dataset.image_size=8", "dataset.classes=4", "dataset.train_size=80", "dataset.pad=1")
DATA += ("dataset.test_size=60",)
QUICK = ("student=resnet8", "recipe.epochs=1", "recipe.batch_size=40", "engine.device=cpu", "engine.threads=1")
LOUDER = 10.0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of a trained resnet8 as `plain.pth`, and as `loud.pth` for images ten times smaller."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [*DATA, *QUICK, "loss=ce", "recipe.epochs=6", "recipe.batch_size=16"]
        assert main(["train", *words, "runs_dir=trained"]) == FINISHED
    (weights,) = folder.glob("trained/resnet8-*/student.safetensors")
    state = safetensors.torch.load_file(weights)
    torch.save(state, folder / "plain.pth")
    torch.save({**state, "conv1.weight": LOUDER * state["conv1.weight"]}, folder / "loud.pth")
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")
    return tmp_path


def imported(file: Path, *words: str) -> tuple[str, float]:
    """The id and the accuracy of an imported file."""
    before = set(Path("runs").glob("*"))
    assert main(["import", str(file), "student=resnet8", *DATA, *words, "engine.device=cpu"]) == FINISHED
    (run,) = set(Path("runs").glob("*-imported-*")) - before
    return run.name[-12:], json.loads((run / "result.json").read_text())["last"]["accuracy"]


def planned(*words: str):
    (plan,) = prepare([*DATA, *QUICK, *words], multirun=False, config_dir=None, faults=[], may_download=False)[1].jobs
    return plan


def test_it_keeps_its_own_normalisation(teacher: Path) -> None:
    plain, accuracy = imported(teacher / "plain.pth")
    loud, measured = imported(teacher / "loud.pth", "dataset.std=[2.5,2.5,2.5]")
    assert accuracy == measured > 75
    one, other = planned(f"teacher.run={plain}"), planned(f"teacher.run={loud}")
    assert set(one.identity["teacher"]) == {"weights"}  # as ever: its normalisation is the student's
    assert other.identity["teacher"] == {**other.identity["teacher"], "mean": [0.5] * 3, "std": [2.5] * 3}

    crops = next(ImageStream(one.dataset, batch_size=80, seed=0, device="cpu").epoch(1)).images
    with torch.no_grad():
        expected, found = (each.teacher.network().eval()(crops).logits for each in (one, other))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    for number, source in enumerate(("live", "table"), 1):
        words = (f"teacher.run={loud}", f"teacher.source={source}", f"seed={number}")
        assert main(["train", *DATA, *QUICK, *words]) == FINISHED
        (result,) = Path("runs").glob(f"*-s{number}-*/result.json")
        facts = json.loads(result.read_text())["teacher"]
        assert (facts["accuracy"], facts["source"]) == (accuracy, source)


def test_one_that_does_not_do_as_recorded_is_refused_with_both_figures(
    teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, measured = imported(teacher / "loud.pth", "dataset.std=[2.5,2.5,2.5]")
    monkeypatch.setattr("distill.config.rebuild.normalisation", lambda record: ((0.5,) * 3, (0.25,) * 3))
    assert main(["train", *DATA, *QUICK, f"teacher.run={loud}"]) == FAILED
    error = capsys.readouterr().err
    assert f"% where its record says {measured:.2f} %: its weights or the data have changed" in error
    assert not list(Path("runs").glob("*-kd-*/result.json"))


def test_without_a_record_for_these_images_it_must_be_far_from_chance(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On other images, of the same classes, there is no reference; an untrained network is refused."""
    state = torch.load(teacher / "plain.pth", weights_only=True)
    torch.save({**state, "fc.weight": torch.zeros_like(state["fc.weight"])}, "broken.pth")
    broken, _ = imported(Path("broken.pth"))
    assert main(["train", *DATA, *QUICK, f"teacher.run={broken}", "dataset.test_size=40"]) == FAILED
    assert "has 25.00 % on the evaluation images, and nothing says what it should have" in capsys.readouterr().err
    plain, _ = imported(teacher / "plain.pth")
    assert main(["train", *DATA, *QUICK, f"teacher.run={plain}", "dataset.test_size=40"]) == FINISHED


def test_a_claim_is_held_against_what_is_measured(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file imported without its data is measured by its first student."""
    random, arrays = np.random.RandomState(0), {}
    for part in ("train", "test"):
        arrays |= {
            f"x_{part}": random.randint(0, 256, (20, 32, 32, 3), dtype=np.uint8),
            f"y_{part}": np.arange(20) % 10,
        }
    np.savez("data.npz", **arrays)
    torch.manual_seed(0)
    torch.save({"accuracy": 71.5, "state_dict": resnet8(num_classes=10).state_dict()}, "claim.pth")
    assert main(["import", "claim.pth", "student=resnet8", "dataset=cifar10"]) == FINISHED
    (run,) = Path("runs").glob("*-imported-*")
    words = ("dataset=cifar10", "dataset.npz=data.npz", f"teacher.run={run.name[-12:]}", "recipe=demo")
    assert main(["train", *words, *QUICK]) == FAILED
    assert "% where its file claims 71.50 %: import it again with its data" in capsys.readouterr().err
