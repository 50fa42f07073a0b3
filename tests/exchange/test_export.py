"""`distill export`: every form read back by somebody else's code, the card's lines run, wrong files thrown away."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import distill
import distill.cli
from distill.cli import main as command
from distill.cli.arguments import FINISHED
from distill.runs.layout import EXPORT

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill export` with these words; return the exit code."""
    return command(["export", *words])


SAFETENSORS, ONNX, TORCH = "model.safetensors", "model.onnx", "model.pt2"
ALWAYS = {"README.md", "config.yaml", "result.json", EXPORT}


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in every form."""
    folder = tmp_path_factory.mktemp("exported") / "deep" / "all"
    (run,) = (trained / "runs").glob("resnet8-*")
    words = [f"run={run}", f"dataset.npz={trained / 'data.npz'}", "--out", str(folder), "--format", "all"]
    assert main(words) == FINISHED
    return folder


@pytest.fixture
def images(run: Path) -> torch.Tensor:
    """The run's test images, normalised."""
    return distill.load(run).normalise(np.load("data.npz")["x_test"])


@pytest.fixture
def expected(run: Path, images: torch.Tensor) -> torch.Tensor:
    """What the run's network says of them."""
    with torch.no_grad():
        return distill.load(run)(images).logits


def test_the_folder_holds_what_restores_the_run(run: Path, exported: Path) -> None:
    assert names(exported) == {SAFETENSORS, ONNX, TORCH, *ALWAYS}
    for name, own in ((SAFETENSORS, "student.safetensors"), ("config.yaml",) * 2, ("result.json",) * 2):
        assert (exported / name).read_bytes() == (run / own).read_bytes()


@pytest.mark.parametrize("batch", [1, 2, 50])
def test_onnxruntime_says_the_same(exported: Path, images: torch.Tensor, expected: torch.Tensor, batch: int) -> None:
    session = onnxruntime.InferenceSession(exported / ONNX, providers=["CPUExecutionProvider"])
    assert [node.shape for node in session.get_inputs()] == [["batch", 3, 8, 8]]
    (found,) = session.run(["logits"], {"images": images[:batch].contiguous().numpy()})
    np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 50])
def test_the_program_says_the_same(exported: Path, images: torch.Tensor, expected: torch.Tensor, batch: int) -> None:
    found = torch.export.load(exported / TORCH).module()(images[:batch])
    torch.testing.assert_close(found, expected[:batch], rtol=0, atol=1e-4)


def test_the_lines_of_the_card_work(
    run: Path, exported: Path, images: torch.Tensor, expected: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    assert "(1, 8, 8, 3)" in blocks[0]
    monkeypatch.chdir(exported)
    pictures = np.load(run.parents[1] / "data.npz")["x_test"]
    told: list[Any] = []
    names: dict[str, Any] = {"print": told.append, "pictures": pictures}
    exec(re.sub(r"^pixels = .*$", "pixels = pictures", blocks[0], flags=re.MULTILINE), names)
    np.testing.assert_allclose(names["images"], images, rtol=0, atol=1e-6)
    for block in blocks[1:]:
        exec(block, names)
    assert [list(map(int, answer)) for answer in told] == [expected.argmax(dim=1).tolist()] * 3


def test_the_card_and_its_twin_tell_what_matters(run: Path, exported: Path) -> None:
    text, facts = (exported / "README.md").read_text(), json.loads((exported / EXPORT).read_text())
    result = json.loads((run / "result.json").read_text())
    network = distill.load(run)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    last, best = result["last"], result["best"]
    for needed in (
        "# resnet8 on arrays (ce)",
        f"| run | {result['run_id']} ",
        "(`distill.models.resnet8`)",
        f"| parameters | {parameters:,} |",
        f"| multiply-adds of one image | {facts['macs']:,} |",
        "arrays, 4 classes",
        "ce: ce_weight 1",
        "| teacher | none |",
        "epochs 2, batch_size ",
        f"**{last['accuracy']:.2f} %** ({last['correct']} of 50 test images)",
        f"{best['accuracy']:.2f} % in epoch {best['epoch']}, chosen on the test images",
        f"`{result['weights_sha256']}`",
        f"mean {list(network.normalise.mean)} and std {list(network.normalise.std)}",
        "(batch, 3, 8, 8)",
        "from 0: ant, bee, cat, dog.",
        "on 50 test images.",
        f"torch {torch.__version__.partition('+')[0]}",
        f"onnxruntime {onnxruntime.__version__}",
        f"distill {distill.__version__}",
        f"`distill import {SAFETENSORS}`",
    ):
        assert needed in text, needed
    assert (facts["run_id"], facts["parameters"], facts["class_names"]) == (
        result["run_id"],
        parameters,
        ["ant", "bee", "cat", "dog"],
    )
    for name in (SAFETENSORS, ONNX, TORCH):
        digest = hashlib.sha256((exported / name).read_bytes()).hexdigest()
        assert facts["files"][name]["sha256"] == digest
        assert f"`{digest}`" in text
        assert facts["files"][name]["equal_predictions"] == facts["files"][name]["images"] == 50
        assert facts["files"][name]["largest_difference"] <= facts["files"][name]["tolerance"] < 0.01


def test_no_path_of_this_machine_leaves_it(exported: Path) -> None:
    for name in ("README.md", EXPORT, ONNX, TORCH):
        data = (exported / name).read_bytes()
        assert not any(str(path).encode() in data for path in (ROOT, Path(torch.__file__).parents[1], exported))
