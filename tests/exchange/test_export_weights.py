"""`distill export`: rounded weights, the data at hand or not, and the way back through `distill import`."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import distill
import distill.cli
from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.runs.layout import EXPORT

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill export` with these words; return the exit code."""
    return command(["export", *words])


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main([f"run={run.name}", *words])


@pytest.fixture
def images(run: Path) -> torch.Tensor:
    """The run's test images, normalised."""
    return distill.load(run).normalise(np.load("data.npz")["x_test"])


@pytest.fixture
def expected(run: Path, images: torch.Tensor) -> torch.Tensor:
    """What the run's network says of them."""
    with torch.no_grad():
        return distill.load(run)(images).logits


def test_fp16_rounds_and_says_how_far(run: Path, expected: torch.Tensor, images: torch.Tensor, capsys: Capture) -> None:
    assert export(run, "--format", "safetensors", "--dtype", "fp16", "--out", "half") == FINISHED
    weights, own = load_file("half/model.safetensors"), load_file(run / "student.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16, torch.int64}
    assert all(torch.equal(weights[name], own[name].to(weights[name].dtype)) for name in own)
    network = distill.load(run)
    network.load_state_dict(weights)
    with torch.no_grad():
        found = network(images).logits
    labels = torch.from_numpy(np.load("data.npz")["y_test"])
    correct = int((found.argmax(dim=1) == labels).sum())
    facts = json.loads(Path("half", EXPORT).read_text())["rounded"]
    assert 0 < facts["difference"] == pytest.approx(float((found - expected).abs().max()), rel=1e-3)
    assert (facts["correct"], facts["total"], facts["accuracy"]) == (correct, 50, 2 * correct)
    told = f"accuracy with the rounded weights {2 * correct:.2f} % ({correct} of 50)"
    assert told in capsys.readouterr().out
    assert told in Path("half/README.md").read_text()


def test_weights_too_large_for_fp16(run: Path, capsys: Capture) -> None:
    weights = load_file(run / "student.safetensors")
    weights["bn1.running_var"][0] = 1e5
    save_file(weights, run / "student.safetensors")
    result = json.loads((run / "result.json").read_text())
    result["weights_sha256"] = hashlib.sha256((run / "student.safetensors").read_bytes()).hexdigest()
    (run / "result.json").write_text(json.dumps(result))
    assert export(run, "--format", "safetensors", "--dtype", "fp16") == FAILED
    assert "bn1.running_var has values too large for fp16" in capsys.readouterr().err


def test_without_the_data_the_images_are_synthetic(run: Path, capsys: Capture) -> None:
    Path("data.npz").rename("moved.npz")
    result = json.loads((run / "result.json").read_text())
    result.pop("image_size", None)
    (run / "result.json").write_text(json.dumps(result))
    assert export(run, "--format", "safetensors") == REFUSED
    assert "the size of the images of" in (told := capsys.readouterr().err)
    assert "there is no file data.npz" in told
    (run / "result.json").write_text(json.dumps({**result, "image_size": 8}))
    assert export(run, "--format", "safetensors", "--dtype", "fp16", "--out", "out") == FINISHED
    told = capsys.readouterr().out
    card = Path("out/README.md").read_text()
    for text in (told, card):
        assert "256 synthetic standard-normal images" in text
        assert "there is no file data.npz" in text
        assert "accuracy was not measured again" in text
    assert export(run, "dataset.npz=moved.npz", "--format", "safetensors", "--out", "out") == FINISHED
    assert "checked on 50 test images" in capsys.readouterr().out


def test_other_data_are_not_the_runs(run: Path, capsys: Capture) -> None:
    parts = dict(np.load("data.npz"))
    parts["x_test"] = parts["x_test"] // 2
    np.savez("other.npz", **parts)
    assert export(run, "dataset.npz=other.npz") == REFUSED
    assert "the data are not those of the run" in capsys.readouterr().err
    Path("other.npz").replace("data.npz")
    assert export(run, "--format", "safetensors") == FINISHED
    assert "synthetic images, because the data are not those of the run" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_import_makes_a_run_of_it_again(run: Path, dtype: str, capsys: Capture) -> None:
    assert export(run, "--format", "safetensors", "--dtype", dtype, "--out", "out") == FINISHED
    words = ["out/model.safetensors", "dataset.npz=data.npz", "runs_dir=restored", "engine.device=cpu"]
    assert distill.cli.main(["import", *words]) == FINISHED
    before, after = distill.load(run), distill.load(run.name, runs_dir="restored")
    own, restored = before.state_dict(), after.state_dict()
    rounded = {name: t.half().float() if dtype == "fp16" and t.is_floating_point() else t for name, t in own.items()}
    assert all(torch.equal(restored[name], rounded[name]) for name in own)
    assert after.normalise == before.normalise


def test_the_digest_of_absent_data_is_unknown(run: Path, capsys: Capture) -> None:
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["identity"]["data"] |= {"train": None, "test": None}  # as `distill import` writes it without the data
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert export(run, "--format", "safetensors") == FINISHED
    assert "checked on 50 test images" in capsys.readouterr().out
