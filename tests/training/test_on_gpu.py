"""The commands on a CUDA device: marker `gpu`. On a machine without one they are rehearsed with stand-ins for lanes."""

import json
from pathlib import Path

import pytest
from accelerator import DEVICE, IS_CUDA, new_lane

from distill.cli import main
from distill.execution import engines
from distill.training import WARM_UP

pytestmark = [pytest.mark.gpu] if IS_CUDA else []

EPOCHS = 3  # of two batches
COMMON = [
    *(
        "dataset=synthetic",
        "dataset.image_size=8",
        "dataset.classes=4",
        "dataset.train_size=32",
        "dataset.test_size=20",
    ),
    *("student=resnet8", "teacher=resnet8", "recipe.batch_size=16", f"recipe.epochs={EPOCHS}", "seed=1"),
    *("teacher.recipe.epochs=1", "teacher.source=live"),
]
COHORT = ["-m", "hydra/launcher=cohort", "loss=ce,kd,zscore_kd"]
ON_GPU = [f"engine.device={DEVICE.type}", "engine.capture=auto"]


@pytest.fixture(autouse=True)
def lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the commands choose their engine as on one, and record tapes instead of graphs."""
    if not IS_CUDA:
        monkeypatch.setattr(engines, "CudaLane", lambda device: new_lane())
        monkeypatch.setattr(engines, "_captures", lambda engine, device: engine["capture"] is not False)


def train(runs_dir: Path, *words: str) -> dict[str, Path]:
    """The folders of the students' runs by their method."""
    assert main(["train", *COMMON, f"runs_dir={runs_dir}", *words]) == 0
    return {run.name.split("-")[1]: run for run in runs_dir.glob("*-s1-*")}


def losses(run: Path) -> list[float]:
    """In training, of each epoch."""
    return [json.loads(line)["train"]["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs as a CPU trains them."""
    plain = ["engine.device=cpu", "engine.capture=false", "precision=fp32"]
    return train(tmp_path_factory.mktemp("cpu"), *plain, *COHORT)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cohort_trains_on_the_gpu_as_on_the_cpu(tmp_path: Path, on_cpu: dict[str, Path], precision: str) -> None:
    runs = train(tmp_path, *ON_GPU, f"precision={precision}", *COHORT)
    assert runs.keys() == on_cpu.keys() == {"ce", "kd", "zscore_kd"}
    for method, run in runs.items():
        # one epoch is short enough for rounding not to have grown into another training
        assert losses(run)[0] == pytest.approx(losses(on_cpu[method])[0], rel=0.05)
        assert len(losses(run)) == EPOCHS
        result = json.loads((run / "result.json").read_text())
        assert result["captured_steps"] == 2 * EPOCHS - WARM_UP


def test_the_gpu_is_recorded(tmp_path: Path) -> None:
    (run,) = train(tmp_path, *ON_GPU, "loss=ce").values()
    recorded = json.loads((run / "provenance.json").read_text())
    assert recorded["device"]
    assert recorded["engine"]["device"] == DEVICE.type
    assert recorded["step"]["capture"] is True
