"""Runs of a user's own code, from the command line: changed code is another run, and what was trained stays usable."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from distill.cli import main

NETWORK = """
from torch import nn

import blocks


class Net(nn.Sequential):
    def __init__(self, num_classes: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))

    def forward(self, images):
        return blocks.scaled(super().forward(images))
"""
BLOCKS = "def scaled(x):\n    return 2.0 * x\n"
TINY = [
    *("dataset=synthetic", "dataset.image_size=8", "dataset.train_size=32", "dataset.test_size=16", "recipe=demo"),
    *("recipe.epochs=1", "engine.device=cpu", "engine.threads=1"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`project(*words, code=0)`: a command in the current folder, with its files imported anew; returns its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "own_net.py").write_text(NETWORK)
    (tmp_path / "blocks.py").write_text(BLOCKS)

    def run(*words: str, code: int = 0) -> str:
        for name in ("own_net", "blocks"):
            sys.modules.pop(name, None)
        found = main(list(words))
        printed = capsys.readouterr()
        assert found == code, printed.err
        return printed.out + printed.err

    return run


def train(project, *words: str) -> str:
    return project("train", *TINY, "student._target_=own_net.Net", "loss=ce", "seed=1", *words)


def test_changed_code_is_another_run(project, tmp_path: Path) -> None:
    assert "new run" not in train(project)
    (first,) = (tmp_path / "runs").iterdir()
    provenance = json.loads((first / "provenance.json").read_text())
    assert sorted(provenance["own_code"]) == ["blocks.py", "own_net.py"]

    (tmp_path / "blocks.py").write_text(f'"""Blocks."""\n\n{BLOCKS}  # twice\n')
    assert "was finished before" in train(project)

    (tmp_path / "blocks.py").write_text(BLOCKS.replace("2.0", "20.0"))
    said = train(project)
    assert f"blocks.py has changed since run {first.name[-12:]}: this is a new run" in said
    assert "was finished before" not in said
    table = project("table")
    assert len(re.findall(r"own_code=[0-9a-f]{4}\b", table)) == 2, table

    (tmp_path / "blocks.py").write_text(BLOCKS)
    assert "was finished before" in train(project)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    for run in (tmp_path / "runs").iterdir():
        identity = yaml.safe_load((run / "config.yaml").read_text())["identity"]
        assert len(identity["student"]["own_code"]) == 64


def test_a_finished_run_of_ones_own_class_is_measured_and_teaches(project, tmp_path: Path) -> None:
    train(project)
    (first,) = (tmp_path / "runs").iterdir()
    run = first.name[-12:]
    assert run in project("evaluate", f"run={run}")
    assert "is exported to" in project("export", f"run={run}", "--format", "safetensors")
    assert "wrote" in project("report", f"run={run}")
    taught = ("train", *TINY, "student=resnet8", "teacher=none", f"teacher.run={run}", "loss=kd", "seed=1")
    assert "finished" in project(*taught)

    (tmp_path / "blocks.py").write_text(BLOCKS.replace("2.0", "20.0"))
    assert "blocks.py" in project("evaluate", f"run={run}", code=2)
    refused = project(*taught, "recipe.epochs=2", code=2)
    assert "a run is rebuilt only from networks and data sets with its own code" in refused


LATE = """
from distill.losses import Objective


class Late(Objective):
    needs_teacher = False
    reads = ()

    def forward(self, student, teacher, batch, progress):
        if len(batch.labels) == 32:
            raise RuntimeError("not with this batch")
        return {"ce": student.logits.square().mean()}
"""


def test_a_run_whose_own_code_fails_is_listed_as_failed(project, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    (tmp_path / "presets" / "loss").mkdir(parents=True)
    (tmp_path / "presets" / "loss" / "late.yaml").write_text("_target_: late.Late\n")
    words = (
        "train",
        "--config-dir",
        "presets",
        *TINY,
        "student=resnet8",
        "loss=late",
        "recipe.batch_size=32",
        "seed=1",
    )
    assert "not with this batch" in project(*words, code=1)
    (run,) = (tmp_path / "runs").glob("*/failed.json")
    assert json.loads(run.read_text())["message"] == "RuntimeError: not with this batch"
    assert "failed" in project("ls")
