"""`distill evaluate`: a finished run measured again, and every reason why it cannot be, or must not."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from earlier import unseal

import distill.cli
from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.cli.evaluate import VERB
from distill.runs.store import RunRecord

CLASSES = 4
TEST_IMAGES = 50
Capture = pytest.CaptureFixture[str]


def main(words: list[str]) -> int:
    """Run `distill evaluate` with these words; return the exit code."""
    return command(["evaluate", *words])


def images(path: Path, *, classes: int = CLASSES, seed: int = 0) -> Path:
    """A data set file with 40 training and 50 test images of 8 x 8 pixels."""
    random = np.random.RandomState(seed)
    parts: dict[str, Any] = {}
    for part, size in (("train", 40), ("test", TEST_IMAGES)):
        labels = np.arange(size) % classes
        noise = random.randint(0, 120, (size, 8, 8, 3))
        parts |= {f"x_{part}": (noise + 30 * labels[:, None, None, None]).astype(np.uint8), f"y_{part}": labels}
    np.savez(path, **parts)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run, trained on an .npz that has been moved since."""
    store = tmp_path_factory.mktemp("store")
    data = images(store / "moved.npz")
    words = ["dataset=arrays", f"dataset.npz={data}", "recipe=demo", "student=resnet8", "loss=ce", "recipe.epochs=1"]
    assert distill.cli.main(["train", *words, "engine.device=cpu", f"runs_dir={store / 'runs'}"]) == FINISHED
    data.rename(store / "data.npz")
    return store


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run in a store of the test's own."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    shutil.copy(finished / "data.npz", tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")
    (folder,) = (tmp_path / "runs").glob("resnet8-*")
    return folder


def evaluate(run: Path, *words: str, npz: str = "data.npz") -> int:
    """The exit code of `distill evaluate` for the run."""
    return main([f"run={run.name}", f"dataset.npz={Path(npz).resolve()}", "engine.device=cpu", *words])


def change(path: Path, **facts: Any) -> None:
    """Change facts of a JSON file, of an earlier version where it is the result of a run."""
    if path.name == "result.json":
        unseal(path.parent)
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def change_config(run: Path, part: str, **nodes: Any) -> None:
    """Change nodes of config.yaml, below `config` or `identity`."""
    unseal(run)
    content = yaml.safe_load((run / "config.yaml").read_text())
    content[part].update(nodes)
    (run / "config.yaml").write_text(yaml.safe_dump(content))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_recorded_accuracy_is_found_again(run: Path, capsys: Capture) -> None:
    before = contents(run.parents[1])
    last = json.loads((run / "result.json").read_text())["last"]
    assert evaluate(run) == FINISHED
    headers, cells = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    told = dict(zip(headers, cells, strict=True))
    assert told["accuracy"] == told["recorded"] == f"{last['accuracy']:.2f}"
    assert told["correct"] == f"{last['correct']}/{TEST_IMAGES}"
    assert told["cross-entropy"] == f"{last['loss']:.4f}"
    assert (told["precision"], told["device"], told["measured on"]) == ("fp32", "cpu", "test")
    assert contents(run.parents[1]) == before


def test_a_file_with_test_images_alone(run: Path, tmp_path: Path, capsys: Capture) -> None:
    data = dict(np.load("data.npz"))
    np.savez(tmp_path / "test.npz", x_test=data["x_test"], y_test=data["y_test"])
    assert evaluate(run, "--format", "json", npz="test.npz") == FINISHED
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == json.loads((run / "result.json").read_text())["last"]["accuracy"]
    assert found["agrees"] is True
    np.savez(tmp_path / "test.npz", x_test=data["x_test"][:, ::-1], y_test=data["y_test"])
    assert evaluate(run, "--format", "json", npz="test.npz") == FINISHED
    assert json.loads(capsys.readouterr().out)["not_compared"] == "the data are not those of the run"


@pytest.mark.parametrize("name", ["id", "head", "folder", "path"])
def test_a_run_has_four_names_and_json_all_digits(run: Path, name: str, capsys: Capture) -> None:
    run_id = run.name.rpartition("-")[2]
    meant = {"id": run_id, "head": run_id[:4], "folder": run.name, "path": str(run)}[name]
    assert main([f"run={meant}", f"dataset.npz={Path('data.npz').resolve()}", "--format", "json"]) == FINISHED
    told = json.loads(capsys.readouterr().out)
    last = json.loads((run / "result.json").read_text())["last"]
    assert (told["run_id"], told["agrees"], told["not_compared"]) == (run_id, True, None)
    assert told["recorded"] == last
    assert {key: told[key] for key in ("correct", "count", "accuracy")} == {
        key: last[key] for key in ("correct", "count", "accuracy")
    }
    assert told["loss"] == pytest.approx(last["loss"], rel=1e-6)


@pytest.mark.parametrize(("images_off", "code"), [(2, FINISHED), (3, FAILED)])
def test_another_accuracy_than_recorded_fails(run: Path, images_off: int, code: int, capsys: Capture) -> None:
    last = json.loads((run / "result.json").read_text())["last"]
    wrong = last["accuracy"] + 100 * images_off / TEST_IMAGES
    change(run / "result.json", last={**last, "accuracy": wrong})
    assert evaluate(run) == code
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 2  # the measurement is shown in either case
    sentence = f"has {last['accuracy']:.2f} % but its record has {wrong:.2f} %"
    assert told.err.count(sentence) == (code == FAILED)


def test_other_conditions_are_no_disagreement(run: Path, capsys: Capture) -> None:
    last = json.loads((run / "result.json").read_text())["last"]
    change(run / "result.json", last={**last, "accuracy": last["accuracy"] + 50})
    assert evaluate(run, "precision=bf16") == FINISHED
    assert capsys.readouterr().out.splitlines()[2] == "not compared with the record: the run's precision is fp32"
    images(Path("others.npz"), seed=1)
    assert evaluate(run, "--format", "csv", npz="others.npz") == FINISHED
    assert "the data are not those of the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: (run / "student.safetensors").write_bytes(b"x" * 100), "is not the file its run recorded"),
        (lambda run: (run / "result.json").write_text("{"), "result.json"),
        (lambda run: change(run / "result.json", weights_sha256=None), "its key 'weights_sha256' is missing"),
        (
            lambda run: change(run / "result.json", last={"epoch": 1, "accuracy": "high"}),
            "its key 'last.accuracy' is missing",
        ),
        (lambda run: change_config(run, "config", student="resnet8"), "its key 'config.student' is missing"),
        (lambda run: change_config(run, "config", student={"_target_": "distill.models.resnet20"}), "do not fit"),
        (
            lambda run: change_config(run, "config", student={"_target_": "distill.models.resnet8", "depth": 8}),
            "depth",
        ),
    ],
)
def test_damage_is_told_in_one_sentence(
    run: Path, damage: Callable[[Path], None], sentence: str, capsys: Capture
) -> None:
    damage(run)
    assert evaluate(run) == FAILED
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert sentence in line
    assert told.out == ""


def test_a_record_without_weights_is_refused(run: Path, capsys: Capture) -> None:
    (run / "student.safetensors").unlink()
    assert evaluate(run) == REFUSED
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"{run.name} is a record without weights" in sentence


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "command": "touch executed"},
        {"_target_": "distill.models.resnet8", "num_classes": {"_target_": "os.mkdir", "path": "executed"}},
        {"_target_": "distill.models.resnet8", "num_classes": "${oc.create:{_target_:os.mkdir,path:executed}}"},
    ],
    ids=["target", "nested", "interpolated"],
)
@pytest.mark.parametrize("part", ["student", "dataset"])
def test_a_hostile_folder_executes_nothing(run: Path, part: str, node: dict[str, Any], capsys: Capture) -> None:
    change_config(run, "config", **{part: node})
    assert main([f"run={run}", "engine.device=cpu"]) == REFUSED
    assert "a run is rebuilt only from networks and data sets" in capsys.readouterr().err
    assert not Path("executed").exists()


def test_a_network_of_ones_own_is_named_on_the_command_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("own_networks.py").write_text("from distill.models import resnet8 as mine\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    change_config(run, "config", student={"_target_": "own_networks.mine"})
    assert evaluate(run) == REFUSED
    assert "student._target_=" in capsys.readouterr().err
    assert "own_networks" not in sys.modules
    assert evaluate(run, "student._target_=own_networks.mine") == FINISHED


def test_data_that_lie_where_they_lay_need_no_key(run: Path, capsys: Capture) -> None:
    node = yaml.safe_load((run / "config.yaml").read_text())["config"]["dataset"]
    change_config(run, "config", dataset={**node, "npz": str(Path("data.npz").resolve())})
    assert main([f"run={run.name}"]) == FINISHED
    change_config(run, "config", dataset={**node, "npz": "gone.npz"})
    capsys.readouterr()
    assert main([f"run={run.name}"]) == REFUSED
    assert "there is no file gone.npz: set dataset.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["run=RUN", "dataset.npz=nowhere.npz"], ["there is no file nowhere.npz"]),
        (["run=RUN", "dataset.npz=DIR/five.npz"], ["the data have 5 classes, the run in"]),
        (["run=RUN", "dataset.root=."], ["dataset.root is not a key of arrays: leave it out"]),
        (["run=RUN", "engine.device=cuda:99"], ["engine.device=cuda:99 cannot be used here"]),
        (["run=resnet8-ce-s2"], ["no run matches 'resnet8-ce-s2'", "the nearest is"]),
        (["run=runs/nothing"], ["no run at runs/nothing"]),
        ([], ["evaluate needs a run: add run=ID or run=PATH"]),
        (
            ["run=RUN", "precison=bf16", "precision=b16", "dataset.npz=a", "dataset.root=b", "--fromat", "json"],
            [
                "unknown key 'precison' in 'precison=bf16': did you mean 'precision'?",
                "unknown option --fromat: did you mean '--format'?",
                "precision cannot be 'b16': did you mean 'bf16'?",
                "dataset.npz and dataset.root name two places: keep one",
            ],
        ),
    ],
)
def test_refusals(run: Path, words: list[str], sentences: list[str], capsys: Capture) -> None:
    images(Path("five.npz"), classes=5)
    assert main([word.replace("RUN", run.name).replace("DIR", str(run.parents[1])) for word in words]) == REFUSED
    told = capsys.readouterr()
    assert told.out == ""
    for sentence in sentences:
        assert sentence in told.err
    assert len(told.err.splitlines()) <= len(sentences)


def test_only_a_finished_run_is_measured(run: Path, capsys: Capture) -> None:
    (run / "result.json").unlink()
    assert evaluate(run) == REFUSED
    assert "is unfinished, not finished: type its command again to finish it" in capsys.readouterr().err
    failure = {"epoch": 1, "step": 2, "term": "ce", "message": "ce is nan", "when": "now"}
    (run / "failed.json").write_text(json.dumps(failure))
    assert evaluate(run) == REFUSED
    assert "is failed, not finished: add --retry" in capsys.readouterr().err


@pytest.mark.parametrize("store", ["empty", "missing"])
def test_a_run_in_an_empty_store_is_refused(tmp_path: Path, store: str, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["run=3f2a", f"runs_dir={tmp_path / store}"]) == REFUSED
    sentence = f"no run matches '3f2a': {tmp_path / store} holds no runs; `distill train` makes one"
    assert sentence in capsys.readouterr().err


def test_the_place_named_now_replaces_the_place_of_the_data() -> None:
    from distill.cli.arguments import parse
    from distill.cli.lookup import data_places
    from distill.config.rebuild import located

    node = {"_target_": "distill.data.cifar100", "npz": "old.npz", "root": "data", "download": True}
    record = RunRecord(Path(), "a", "finished", {"dataset": "cifar100"}, {"dataset": node}, {}, {}, None)

    def changed(*words: str) -> dict[str, Any]:
        return {**located(node, data_places(parse(words, VERB), record)), "_target_": ""}

    rest = {"_target_": "", "root": "data", "download": False}  # what was downloaded once is not downloaded again
    assert changed() == {**rest, "npz": "old.npz"}
    assert changed("dataset.npz=new.npz") == {**rest, "npz": "new.npz"}
    assert changed("dataset.root=there") == {**rest, "root": "there", "npz": None}
    assert changed("dataset.download=true") == {**rest, "npz": None, "download": True}
