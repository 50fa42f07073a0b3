"""A model that says something else than the run is thrown away, and the good ones stay."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.cli import main as command
from distill.cli.arguments import FAILED
from distill.exchange import folder as export_folder
from distill.exchange.forms import WRITE, OnlyLogits
from distill.runs.layout import EXPORT

Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill export` with these words; return the exit code."""
    return command(["export", *words])


SAFETENSORS, ONNX, TORCH = "model.safetensors", "model.onnx", "model.pt2"
ALWAYS = {"README.md", "config.yaml", "result.json", EXPORT}


def export(run: Path, *words: str) -> int:
    """The exit code of `distill export` for the run."""
    return main([f"run={run.name}", *words])


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


def perturbed(path: Path, change: float) -> None:
    """Add to a weight of the model in `path`."""
    if path.name == SAFETENSORS:
        weights = load_file(path)
        weights["fc.bias"][0] += change
        save_file(weights, path)
    elif path.name == ONNX:
        model = onnx.load(path)
        (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("fc.bias")]
        values = onnx.numpy_helper.to_array(bias).copy()
        values[0] += change
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(model, path)
    else:
        program = torch.export.load(path)
        program.state_dict["network.fc.bias"].data[0] += change
        with pytest.warns(UserWarning, match="No complete tensor"):
            torch.export.save(program, path)


@pytest.mark.parametrize("change", [1.0, 0.01], ids=["other predictions", "other logits"])
@pytest.mark.parametrize(("form", "name"), [("safetensors", SAFETENSORS), ("onnx", ONNX), ("torch", TORCH)])
def test_wrong_weights_are_thrown_away(
    run: Path, form: str, name: str, change: float, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write = WRITE[form]

    def wrongly(source: Any, path: Path) -> Any:
        network = write(source, path)
        perturbed(path, change)
        return network

    monkeypatch.setitem(WRITE, form, wrongly)
    assert export(run, "--format", form) == FAILED
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith(f"{name} is left out: read back, it differs from the run's network on 50 test images: ")
    assert names(Path("exports")) == set()


def test_the_good_ones_stay(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(export_folder, "find_spec", lambda name: None)  # so that ONNX, the slow one, is left out
    write = WRITE["torch"]

    def truncated(source: Any, path: Path) -> Any:
        network = write(source, path)
        path.write_bytes(path.read_bytes()[:2000])
        return network

    monkeypatch.setitem(WRITE, "torch", truncated)
    assert export(run) == FAILED
    told = capsys.readouterr()
    assert told.err.startswith(f"{TORCH} is left out: ")
    assert len(told.err.splitlines()) == 1
    assert f"left out: {ONNX} needs onnx and onnxscript and onnxruntime: pip install" in told.out
    folder = Path("exports", run.name)
    assert names(folder) == {SAFETENSORS, *ALWAYS}
    assert TORCH not in (folder / "README.md").read_text()


def test_a_batch_size_that_was_kept_is_seen(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def traced(source: Any, path: Path) -> Any:
        program = torch.export.export(OnlyLogits(source.network).eval(), (torch.zeros(7, 3, 8, 8),))
        torch.export.save(program, path)
        return source.network

    monkeypatch.setitem(WRITE, "torch", traced)
    with pytest.warns(UserWarning, match="No complete tensor"):
        assert export(run, "--format", "torch") == FAILED
    assert f"{TORCH} is left out: " in capsys.readouterr().err
