"""`distill.load`: the network of a run in Python, its normalisation, and every reason why there is none."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from earlier import unseal
from PIL import Image
from safetensors.torch import load_file

import distill
from distill.data import EvaluationStream, arrays
from distill.runs.files import StorageError

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


def change_config(run: Path, part: str, **nodes: Any) -> None:
    """Change nodes of config.yaml, below `config` or `identity`."""
    unseal(run)
    content = yaml.safe_load((run / "config.yaml").read_text())
    content[part].update(nodes)
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def test_the_five_lines_of_the_docstring(run: Path, capsys: Capture) -> None:
    block = (distill.load.__doc__ or "").split("in five lines:\n\n")[1].split("\n\n    The network reads")[0]
    lines = [line for line in textwrap.dedent(block).splitlines() if line]
    assert len(lines) == 5
    pictures = np.load("data.npz")["x_test"]
    network = distill.load(run)
    answers = set()
    for pixels in pictures[:8]:
        Image.fromarray(pixels).save("picture.png")
        exec("\n".join(lines).replace("3f2a", run.name), {})
        told = capsys.readouterr().out
        assert told == f"{network(network.normalise(pixels)).logits.argmax(dim=1)}\n"
        answers.add(told)
    assert len(answers) > 1


def test_it_says_what_the_run_recorded(run: Path) -> None:
    dataset = arrays(npz="data.npz")
    network = distill.load(run)
    labels = torch.from_numpy(dataset.evaluation_labels)
    correct = network(network.normalise(dataset.evaluation_images)).logits.argmax(dim=1) == labels
    assert int(correct.sum()) == json.loads((run / "result.json").read_text())["last"]["correct"]


def test_it_is_ready(run: Path) -> None:
    network = distill.load(run)
    assert not any(module.training for module in network.modules())
    weights, state = load_file(run / "student.safetensors"), network.state_dict()
    assert weights.keys() == state.keys()  # normalise is no part of it
    assert all(torch.equal(state[name], weights[name]) and state[name].device.type == "cpu" for name in weights)
    assert type(network).__name__ == "CifarResNet"


def test_normalised_as_in_training_to_the_bit(run: Path) -> None:
    dataset = arrays(npz="data.npz")
    (batch,) = EvaluationStream(dataset, batch_size=50, device="cpu")
    normalise = distill.load(run).normalise
    assert (normalise.mean, normalise.std) == (dataset.mean, dataset.std)
    pixels = dataset.evaluation_images
    assert torch.equal(normalise(pixels), batch.images)
    assert torch.equal(normalise(torch.from_numpy(pixels)), batch.images)
    assert torch.equal(normalise(pixels[3]), batch.images[3:4])
    assert torch.equal(normalise(Image.fromarray(pixels[3])), batch.images[3:4])


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)],
    ids=["floats", "grey", "channels first"],
)
def test_other_pixels_are_refused(run: Path, pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8 of shape \(B, H, W, 3\) or \(H, W, 3\), got"):
        distill.load(run).normalise(pixels)


def test_a_run_has_five_names(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = run.name.rpartition("-")[2]
    expected = distill.load(run).state_dict()["fc.weight"]
    for name in (run_id, run_id[:4], run.name, str(run)):
        assert torch.equal(distill.load(name).state_dict()["fc.weight"], expected)
    monkeypatch.delenv("DISTILL_RUNS")
    assert torch.equal(distill.load(run_id).state_dict()["fc.weight"], expected)  # in runs/
    monkeypatch.chdir("/")
    assert torch.equal(distill.load(run_id, runs_dir=run.parent).state_dict()["fc.weight"], expected)


def unfinished(run: Path) -> None:
    (run / "result.json").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (unfinished, ValueError, "is unfinished, not finished: type its command again to finish it"),
        (lambda run: (run / "result.json").write_text("{"), StorageError, "not valid JSON"),
        (lambda run: (run / "student.safetensors").write_bytes(b"x"), StorageError, "is not the file its run recorded"),
        (lambda run: change_config(run, "identity", precision=1), StorageError, "'identity.precision' is missing"),
        (
            lambda run: change_config(run, "config", student={"_target_": "os.mkdir", "path": "made"}),
            StorageError,
            "names 'os.mkdir', and a run is rebuilt only from networks",
        ),
    ],
)
def test_why_there_is_none(run: Path, damage: Callable[[Path], None], error: type[Exception], sentence: str) -> None:
    damage(run)
    with pytest.raises(error, match=sentence):
        distill.load(run.name)
    assert not Path("made").exists()


def test_an_unknown_run_names_the_nearest(run: Path) -> None:
    with pytest.raises(ValueError, match="no run matches 'resnet8-ce-s3': the nearest is"):
        distill.load("resnet8-ce-s3")


def test_the_normalisation_is_that_of_the_identity_or_the_config(run: Path) -> None:
    before = distill.load(run).normalise
    change_config(run, "identity", data=None)
    with pytest.raises(StorageError, match="does not say how its images are normalised"):
        distill.load(run)  # computed from the images, so the config does not know it
    change_config(run, "config", dataset={"_target_": "distill.data.arrays", "mean": [0, 0, 0], "std": [1, 0.5, 1]})
    after = distill.load(run).normalise
    assert before != after
    assert (after.mean, after.std) == ((0, 0, 0), (1, 0.5, 1))


OWN = """
from distill.models import resnet8 as mine

def taken(*, num_classes):
    network = mine(num_classes=num_classes)
    network.normalise = None
    return network
"""


def test_a_network_of_ones_own_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("loaded_networks.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path.cwd())])
    change_config(run, "config", student={"_target_": "loaded_networks.mine"})
    with pytest.raises(StorageError, match="a class of your own"):
        distill.load(run)
    assert distill.load(run, own="loaded_networks.mine").num_classes == 4
    change_config(run, "config", student={"_target_": "loaded_networks.taken"})
    with pytest.raises(ValueError, match="has an attribute normalise of its own"):
        distill.load(run, own="loaded_networks.taken")


def test_importing_distill_imports_nothing_heavy() -> None:
    script = """
        import sys
        import distill, distill.cli.export
        assert callable(distill.load) and distill.__version__
        sys.exit(", ".join({"torch", "numpy", "hydra", "PIL", "distill.exchange.load"} & set(sys.modules)) or 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
