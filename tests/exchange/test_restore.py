"""`distill import` of weights with their run's config and result beside them: that run again, under its own id."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from earlier import unseal

from distill.cli import main
from distill.cli.arguments import BUSY, FINISHED, REFUSED
from distill.runs.checkpoint import save_weights
from distill.runs.lock import RunLock

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "cifar100_small" / "runs"
CLASSES, TEST_IMAGES = 4, 50
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and one finished run, a teacher."""
    folder = tmp_path_factory.mktemp("trained")
    random = np.random.RandomState(0)
    parts: dict[str, Any] = {}
    for part, size in (("train", 40), ("test", TEST_IMAGES)):
        labels = np.arange(size) % CLASSES
        noise = random.randint(0, 120, (size, 8, 8, 3))
        parts |= {f"x_{part}": (noise + 30 * labels[:, None, None, None]).astype(np.uint8), f"y_{part}": labels}
    np.savez(folder / "data.npz", **parts)
    words = [
        "dataset=arrays",
        f"dataset.npz={folder / 'data.npz'}",
        "student=resnet8",
        "loss=ce",
        "recipe=demo",
        "seed=0",
    ]
    words += ["recipe.epochs=1", "engine.device=cpu", f"runs_dir={folder / 'runs'}"]
    assert main(["train", *words]) == FINISHED
    return folder


@pytest.fixture
def source(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run in a place that is no store; the data set lies as `data.npz` in the current folder."""
    (run,) = (trained / "runs").glob("resnet8-*")
    shutil.copytree(run, tmp_path / "kept")
    shutil.copy(trained / "data.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    change_config(tmp_path / "kept", npz="gone.npz")
    return tmp_path / "kept"


def change_config(run: Path, **places: object) -> None:
    """Change where a run's data lie."""
    unseal(run)
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["config"]["dataset"].update(places)
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def result_of(run: Path) -> dict[str, Any]:
    """`result.json`."""
    return json.loads((run / "result.json").read_text())


def halve(run: Path) -> str:
    """The run's weights as float16; their digest."""
    path = run / "student.safetensors"
    tensors = safetensors.torch.load_file(path)
    return save_weights(path, {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()})


def bring(source: Path, *words: str) -> int:
    """The exit code of `distill import` of the weights in `source`."""
    return main(["import", str(source / "student.safetensors"), "engine.device=cpu", "runs_dir=store", *words])


def only_run() -> Path:
    """The one run there is."""
    (run,) = Path("store").iterdir()
    return run


def test_the_run_comes_back_under_its_own_id(source: Path, capsys: Capture) -> None:
    assert bring(source) == FINISHED
    assert "not measured: the run's data are not here" in capsys.readouterr().out
    run, before = only_run(), result_of(source)
    for name in ("student.safetensors", "metrics.jsonl", "timing.jsonl"):
        assert (run / name).read_bytes() == (source / name).read_bytes()
    assert yaml.safe_load((run / "config.yaml").read_text()) == yaml.safe_load((source / "config.yaml").read_text())
    after = result_of(run)
    after.pop("seal")
    assert after.pop("restored")["measured"] is None
    assert after == before
    assert run.name.endswith(before["run_id"])
    assert json.loads((run / "provenance.json").read_text())["versions"]
    assert bring(source) == FINISHED
    assert "is there already" in capsys.readouterr().out


def test_half_weights_are_measured_again_and_teach_by_their_config(source: Path, capsys: Capture) -> None:
    before = result_of(source)
    digest = halve(source)
    assert bring(source) == FINISHED
    assert "is recorded, not measured" in capsys.readouterr().out
    assert bring(source, "dataset.npz=data.npz") == FINISHED  # what could not be measured then, can be now
    run = only_run()
    after = result_of(run)
    assert after["weights_sha256"] == digest != before["weights_sha256"]
    assert after["restored"]["recorded"] == {
        "weights_sha256": before["weights_sha256"],
        "accuracy": before["last"]["accuracy"],
    }
    assert after["restored"]["measured"] == after["last"]["accuracy"]
    assert after["last"]["count"] == TEST_IMAGES
    assert after["run_id"] == before["run_id"]
    assert bring(source, "dataset.npz=data.npz") == FINISHED
    assert "is there already" in capsys.readouterr().out

    words = ["dataset=arrays", "dataset.npz=data.npz", "teacher=resnet8", "student=resnet8", "loss=kd", "recipe=demo"]
    words += ["recipe.epochs=1", "teacher.recipe.epochs=1", "engine.device=cpu", "runs_dir=store"]
    assert main(["train", *words]) == FINISHED
    told = capsys.readouterr().out
    assert "will be trained first" not in told
    assert len(list(Path("store").glob("resnet8-*"))) == 2
    (student,) = Path("store").glob("resnet8-kd-*")
    assert result_of(student)["teacher"]["weights_sha256"] == digest
    assert result_of(student)["teacher"]["run_id"] == before["run_id"]
    assert main(["evaluate", f"run={before['run_id']}", "runs_dir=store", "dataset.npz=data.npz"]) == FINISHED


def test_other_weights_than_the_runs_are_refused(source: Path, capsys: Capture) -> None:
    tensors = safetensors.torch.load_file(source / "student.safetensors")
    tensors["fc.weight"] = -tensors["fc.weight"]
    save_weights(source / "student.safetensors", tensors)
    assert bring(source, "dataset.npz=data.npz") == REFUSED
    assert "these are not its weights" in capsys.readouterr().err
    assert not Path("store").exists()
    del tensors["fc.weight"]
    save_weights(source / "student.safetensors", tensors)
    assert bring(source) == REFUSED
    assert "do not fit the network its config names" in capsys.readouterr().err
    assert not Path("store").exists()


def test_other_data_are_not_measured_on(source: Path, capsys: Capture) -> None:
    with np.load("data.npz") as arrays:
        np.savez("others.npz", **{**arrays, "x_test": 255 - arrays["x_test"]})
    assert bring(source, "dataset.npz=others.npz") == FINISHED
    assert "not measured: the data are not those of the run" in capsys.readouterr().out
    assert result_of(only_run())["last"] == result_of(source)["last"]


@pytest.mark.parametrize(
    ("part", "nodes", "sentence"),
    [
        ("identity", {"seed": 7}, "has been changed: its identity is not that of run"),
        ("config", {"student": {"_target_": "os.system", "command": "touch executed"}}, "a run is rebuilt only from"),
        ("config", {"dataset": {"_target_": "os.mkdir", "path": "executed"}}, "a run is rebuilt only from"),
        ("config", {"student": "resnet8"}, "its key 'config.student' is missing"),
    ],
)
def test_an_edited_or_hostile_config_is_refused(
    source: Path, part: str, nodes: dict[str, Any], sentence: str, capsys: Capture
) -> None:
    content = yaml.safe_load((source / "config.yaml").read_text())
    content[part].update(nodes)
    (source / "config.yaml").write_text(yaml.safe_dump(content))
    assert bring(source) == REFUSED
    assert sentence in capsys.readouterr().err
    assert not Path("store").exists()
    assert not Path("executed").exists()


def test_a_command_that_says_otherwise_is_refused(source: Path, capsys: Capture) -> None:
    assert bring(source, "student=resnet20", "dataset=digits") == REFUSED
    told = capsys.readouterr().err
    assert "has another student than the command: leave student= out" in told
    assert "has another dataset than the command: leave dataset= out" in told
    assert (
        bring(source, "student=resnet8", "student.num_classes=4", "dataset=arrays", "dataset.npz=data.npz") == FINISHED
    )


def test_what_is_in_its_place_is_left_alone(source: Path, capsys: Capture) -> None:
    assert bring(source) == FINISHED
    run = only_run()
    halve(source)
    assert bring(source) == REFUSED
    assert "is finished with other weights" in capsys.readouterr().err
    (run / "result.json").unlink()
    with RunLock(run) as lock:
        assert lock.acquire()
        assert bring(source) == BUSY
    (run / "last.safetensors").write_bytes(b"x")
    assert bring(source) == REFUSED
    assert "has been trained in part" in capsys.readouterr().err
    (run / "last.safetensors").unlink()
    assert bring(source) == FINISHED


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in RESULTS.glob("*/student.safetensors")))
def test_the_kept_results_come_back(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bring(RESULTS / folder) == FINISHED
    assert only_run().name == folder.replace("cross_entropy", "ce")  # written by a version with longer names
    assert result_of(only_run())["last"] == result_of(RESULTS / folder)["last"]


@pytest.mark.data
def test_a_kept_teacher_in_half_precision_on_the_real_data(
    cifar100_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (teacher,) = RESULTS.glob("resnet20-*")
    shutil.copytree(teacher, "kept")
    halve(Path("kept"))
    assert bring(Path("kept"), f"dataset.npz={cifar100_npz}") == FINISHED
    recorded, measured = (result_of(run)["last"]["accuracy"] for run in (teacher, only_run()))
    assert abs(recorded - measured) <= 0.1
    assert torch.float16 in {t.dtype for t in safetensors.torch.load_file(only_run() / "student.safetensors").values()}
