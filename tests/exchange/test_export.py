"""`distill export`: every form read back by other code, the card's lines run, fp16, missing data, and the way back."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from earlier import unseal
from safetensors.torch import load_file, save_file

import distill
import distill.cli
from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED, REFUSED
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


def test_the_folder_holds_what_restores_the_run(run: Path, exported: Path) -> None:
    assert names(exported) == {SAFETENSORS, ONNX, TORCH, *ALWAYS}
    for name, own in ((SAFETENSORS, "student.safetensors"), ("config.yaml",) * 2, ("result.json",) * 2):
        assert (exported / name).read_bytes() == (run / own).read_bytes()


def test_averaged_weights_are_exported_by_name_alone(run: Path, capsys: Capture, images: torch.Tensor) -> None:
    words = ["train", "dataset=arrays", "dataset.npz=data.npz", "student=resnet8", "loss=ce", "recipe=demo"]
    assert command([*words, "recipe.epochs=2", "recipe.ema=0.5", "engine.device=cpu", "runs_dir=ema"]) == FINISHED
    (with_average,) = Path("ema").glob("resnet8-*")
    assert main([f"run={with_average}", "--format", "safetensors", "--out", "plain"]) == FINISHED
    assert (Path("plain") / SAFETENSORS).read_bytes() == (with_average / "student.safetensors").read_bytes()
    assert main([f"run={with_average}", "--format", "safetensors", "--weights", "ema"]) == FINISHED
    folder = Path("exports") / f"{with_average.name}-ema"
    assert names(folder) == {SAFETENSORS, "README.md", EXPORT}, "nothing that would restore the run"
    assert (folder / SAFETENSORS).read_bytes() == (with_average / "student_ema.safetensors").read_bytes()
    last = json.loads((with_average / "result.json").read_text())["last"]
    card = (folder / "README.md").read_text()
    assert f"**{last['ema']['accuracy']:.2f} %**" in card
    assert 'weights="ema")` gives the network' in card
    assert "turns this folder into a run again" not in card
    assert "`config.yaml` and" not in card
    assert "exponential moving average" in card
    network, averaged = distill.load(with_average, weights="ema"), load_file(folder / SAFETENSORS)
    assert all(torch.equal(value, averaged[name]) for name, value in network.state_dict().items())
    assert not torch.equal(distill.load(with_average).state_dict()["conv1.weight"], averaged["conv1.weight"])
    with torch.no_grad():
        predicted = network(images).logits.argmax(dim=1)
    hits = int((predicted == torch.from_numpy(np.load("data.npz")["y_test"])).sum())
    assert hits == last["ema"]["correct"]
    capsys.readouterr()
    assert main([f"run={run}", "--weights", "ema"]) == REFUSED
    none = f"{run} has no averaged weights: it was trained without recipe.ema"
    assert capsys.readouterr().err == f"{none}\n"
    with pytest.raises(ValueError, match=re.escape(none)):
        distill.load(run, weights="ema")
    with pytest.raises(ValueError, match="weights must be one of last, ema, got 'best'"):
        distill.load(run, weights="best")  # type: ignore[arg-type]


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
        "# resnet8 on data.npz (ce)",
        f"| run | {result['run_id']} ",
        "(`distill.models.resnet8`)",
        f"| parameters | {parameters:,} |",
        f"| multiply-adds of one image | {facts['macs']:,} |",
        "data.npz, 4 classes",
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


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main([f"run={run.name}", *words])


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
    unseal(run)
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
    unseal(run)
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
    content = yaml.safe_load((unseal(run) / "config.yaml").read_text())
    content["identity"]["data"] |= {"train": None, "test": None}  # as `distill import` writes it without the data
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    assert export(run, "--format", "safetensors") == FINISHED
    assert "checked on 50 test images" in capsys.readouterr().out
