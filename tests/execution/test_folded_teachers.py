"""Which runs ask a teacher in its folded form, and how its accuracy is measured."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from distill.cli import main

TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "student=resnet8",
    "teacher=resnet8",
    "recipe.epochs=1",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "runs"


def teacher_of(store: Path, method: str) -> dict:
    (path,) = run_of(store, method).glob("result.json")
    facts: dict = json.loads(path.read_text())["teacher"]
    return facts


def run_of(store: Path, method: str) -> Path:
    """The run of a loss preset."""
    runs = {yaml.safe_load(path.read_text())["names"]["loss"]: path.parent for path in store.glob("*-s1-*/config.yaml")}
    return runs[method]


def measured(store: Path) -> list[bool]:
    """The forms in which the teacher has been measured."""
    (path,) = store.glob("resnet8-ce-s0-*/evaluations.json")
    return sorted(entry["folded"] for entry in json.loads(path.read_text()).values())


def test_methods_that_read_logits_alone_fold_it_and_others_do_not(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("kd", "mlkd"):
        assert main(["train", *TINY, "teacher.source=live", f"loss={method}"]) == 0
        assert teacher_of(store, method)["folded"] is True
        assert measured(store) == [True]
    assert main(["train", *TINY, "loss=fitnet"]) == 0
    assert teacher_of(store, "fitnet")["folded"] is False
    assert measured(store) == [False, True]  # each measured as it is asked
    told = [line for line in capsys.readouterr().out.splitlines() if "% (fp32" in line]
    assert [line.partition("% ")[2] for line in told] == ["(fp32, folded)", "(fp32)"]

    assert main(["train", *TINY, "loss=kd", "seed=2", "teacher.source=table"]) == 0
    assert measured(store) == [False, True]


def test_a_member_beside_one_with_taps_is_the_run_alone_to_the_byte(store: Path) -> None:
    grid = ("-m", "loss=kd,fitnet", "hydra/launcher=cohort", "runs_dir=together")
    assert main(["train", *TINY, "teacher.source=live", *grid]) == 0
    for method in ("kd", "fitnet"):
        assert main(["train", *TINY, "teacher.source=live", f"loss={method}", "runs_dir=alone"]) == 0
        one, other = (run_of(Path(each), method) for each in ("together", "alone"))
        assert (one / "student.safetensors").read_bytes() == (other / "student.safetensors").read_bytes()
        assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
