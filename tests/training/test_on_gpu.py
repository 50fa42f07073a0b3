"""The same commands on a CUDA device: marker `gpu`."""

import json
from pathlib import Path

import pytest
from accelerator import DEVICE

from distill.cli import main

COMMON = ["dataset=synthetic", "teacher=resnet8", "recipe.epochs=2", "teacher.recipe.epochs=2", "seed=1"]


def train(runs_dir: Path, device: str, *words: str) -> dict[str, list[dict]]:
    """Metrics by method of a sweep's runs."""
    assert main(["train", *COMMON, f"engine.device={device}", f"runs_dir={runs_dir}", *words]) == 0
    metrics = {}
    for run in runs_dir.glob("*-s1-*"):
        assert (run / "result.json").is_file()
        metrics[run.name.split("-")[1]] = [
            json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
    return metrics


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cohort_trains_on_the_gpu_as_on_the_cpu(tmp_path: Path, precision: str) -> None:
    sweep = ["-m", "hydra/launcher=cohort", "loss=ce,kd,zscore_kd"]
    gpu = train(tmp_path / "gpu", DEVICE.type, f"precision={precision}", *sweep)
    cpu = train(tmp_path / "cpu", "cpu", *sweep)
    assert gpu.keys() == cpu.keys() == {"cross_entropy", "kd", "zscore_kd"}
    for method, epochs in gpu.items():
        # two epochs are few enough for rounding not to have grown into another training
        assert epochs[0]["train"]["loss"] == pytest.approx(cpu[method][0]["train"]["loss"], rel=0.05)
        assert len(epochs) == 2


@pytest.mark.gpu
def test_the_gpu_is_recorded(tmp_path: Path) -> None:
    train(tmp_path, DEVICE.type, "loss=ce")
    (provenance,) = tmp_path.glob("*/provenance.json")
    recorded = json.loads(provenance.read_text())
    assert recorded["device"]
    assert recorded["engine"]["device"] == DEVICE.type
