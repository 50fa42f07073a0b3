"""Runs on photographs: side by side as alone, measured from another place, and shown in a report."""

import json
import shutil
from pathlib import Path

import pytest
from photographs import shards_of, write_folder

from distill.cli import main
from distill.cli.arguments import REFUSED
from distill.config.build import _dataset
from distill.config.rebuild import located

DATA = ("dataset=image_folder", "dataset.size=24", "dataset.resize=28")
FAST = ("student=resnet8", "teacher=resnet8", "teacher.seed=3", "teacher.recipe.epochs=1", "engine.device=cpu")
RECIPE = ("recipe=demo", "recipe.epochs=2", "recipe.batch_size=8", "engine.threads=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("photographs"), classes=6, train=6, val=3)


def train(root: Path, runs: Path, *words: str) -> None:
    place = (f"dataset.root={root}", f"runs_dir={runs}")
    assert main(["train", *DATA, *FAST, *RECIPE, *place, *words]) == 0


def results(runs: Path) -> dict[str, tuple[bytes, bytes]]:
    return {
        path.parent.name: (
            (path.parent / "metrics.jsonl").read_bytes(),
            (path.parent / "student.safetensors").read_bytes(),
        )
        for path in runs.glob("*/result.json")
    }


@pytest.mark.usefixtures("undrawn")
def test_side_by_side_as_alone_with_top5_and_a_report(root: Path, tmp_path: Path) -> None:
    train(root, tmp_path / "cohort", "-m", "hydra/launcher=cohort", "loss=kd,mlkd")
    for loss in ("kd", "mlkd"):
        train(root, tmp_path / "alone", f"loss={loss}", "engine.workers=1")
    found = results(tmp_path / "cohort")
    assert len(found) == 3
    assert found == results(tmp_path / "alone")
    (kd,) = (tmp_path / "cohort").glob("resnet8-kd-*")
    last = json.loads((kd / "result.json").read_text())["last"]
    assert last["accuracy"] <= last["top5"] <= 100
    assert main(["report", f"run={kd}", f"runs_dir={tmp_path / 'cohort'}", "--out", str(tmp_path / "report")]) == 0


@pytest.mark.usefixtures("undrawn")
def test_a_run_from_a_folder_is_measured_from_shards_and_the_other_way_round(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(root, tmp_path / "folder"))
    shards, words = shards_of(moved, tmp_path / "shards"), [*FAST, *RECIPE, "recipe.epochs=1", "loss=ce", *DATA]
    for name, trained, elsewhere in (
        ("one", f"dataset.root={moved}", f"dataset.shards={shards}"),
        ("two", f"dataset.shards={shards}", f"dataset.root={root}"),
    ):
        runs = f"runs_dir={tmp_path / name}"
        assert main(["train", *words, trained, runs]) == 0
        (run,) = (tmp_path / name).glob("resnet8-*")
        shutil.rmtree(trained.partition("=")[2])  # where it was trained from there is nothing any more
        _dataset.cache_clear()
        assert main(["evaluate", f"run={run}", "engine.device=cpu"]) == REFUSED
        assert "there is no folder" in capsys.readouterr().err
        assert main(["evaluate", f"run={run}", "engine.device=cpu", elsewhere, "--format", "json"]) == 0
        measured = json.loads(capsys.readouterr().out)
        assert measured["agrees"] is True
        assert measured["top5"] == measured["recorded"]["top5"]
        if name == "one":
            out = ("--out", str(tmp_path / "report"))
            assert main(["report", f"run={run}", "engine.device=cpu", elsewhere, *out]) == 0
            assert "left out" not in capsys.readouterr().out
            card = ("--format", "safetensors", "--out", str(tmp_path / "card"))
            assert main(["export", f"run={run}", elsewhere, *card]) == 0
            capsys.readouterr()
            assert "shorter side was resized to 28 pixels" in (tmp_path / "card" / "README.md").read_text()
            both = ["evaluate", f"run={run}", elsewhere, f"dataset.root={root}"]
            assert main(both) == REFUSED
            assert "dataset.root and dataset.shards name two places: keep one" in capsys.readouterr().err


def test_a_folder_named_later_replaces_the_shards_that_a_run_was_trained_from() -> None:
    node = {"_target_": "distill.data.image_folder", "root": None, "shards": "shards"}
    assert located(node, {"root": "folder"}) == {**node, "root": "folder", "shards": None}
    trained = {**node, "root": "folder", "shards": None}
    assert located(trained, {"shards": "shards"}) == node
    assert located(node, {}) == node
