"""A model that differs from the run is left out, the others stay; and when two networks count as equal."""

import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.cli import main as command
from distill.cli.arguments import FAILED
from distill.exchange import folder as export_folder
from distill.exchange.export import compare, logits_of
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


ORIGINAL = torch.tensor([[20.0, 0.0], [-1.0, 1.0], [0.0, 0.0005]])


def test_a_difference_within_the_tolerance_holds() -> None:
    found = ORIGINAL + torch.tensor([[0.0, 0.001], [0.0, 0.0], [0.0, 0.0]])
    agreement = compare(found, ORIGINAL, tolerance=1e-4)  # of 20
    assert agreement.holds
    assert agreement.tolerance == pytest.approx(0.002)
    assert (agreement.equal, agreement.count) == (3, 3)
    assert not compare(found, ORIGINAL, tolerance=1e-5).holds


def test_a_tie_may_fall_either_way_and_nothing_else() -> None:
    found = ORIGINAL.clone()
    found[2, 0] = 0.001
    agreement = compare(found, ORIGINAL, tolerance=1e-4)
    assert (agreement.holds, agreement.equal) == (True, 2)
    original = ORIGINAL.clone()
    original[2, 1] = 0.003
    found[2] = torch.tensor([0.0018, 0.0015])  # each logit is within the tolerance of 0.002, the prediction is not
    agreement = compare(found, original, tolerance=1e-4)
    assert agreement.largest < agreement.tolerance
    assert not agreement.holds


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_never_holds(number: float) -> None:
    found = ORIGINAL.clone()
    found[1, 1] = number
    assert not compare(found, ORIGINAL, tolerance=1.0).holds
    assert not compare(found, found, tolerance=1.0).holds


def test_small_logits_have_an_absolute_tolerance() -> None:
    assert compare(torch.zeros(2, 3), torch.zeros(2, 3), tolerance=1e-4).tolerance == 1e-4


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="logits of shape"):
        compare(torch.zeros(2, 3), torch.zeros(2, 4), tolerance=1.0)


@pytest.mark.parametrize(("count", "distinct"), [(1, 1), (2, 1), (8, 2), (9, 2), (50, 3), (72, 3), (256, 4)])
def test_batches_of_several_sizes_cover_all_images_in_order(count: int, distinct: int) -> None:
    images = torch.arange(float(count)).view(count, 1, 1, 1)
    sizes: list[int] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch.flatten(1)

    assert torch.equal(logits_of(model, images).flatten(), images.flatten())
    assert len(set(sizes)) == distinct
