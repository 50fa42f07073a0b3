"""`distill import DIR`: runs of another machine, each checked by itself, none overwritten."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import yaml
from earlier import unseal

from distill.cli import main
from distill.cli.arguments import BUSY, FAILED, FINISHED, REFUSED
from distill.runs.checkpoint import save_weights
from distill.runs.files import StorageError
from distill.runs.lock import RunLock

RESULTS = Path(__file__).resolve().parents[2] / "results" / "cifar100_small" / "runs"
Capture = pytest.CaptureFixture[str]
TINY = [
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "student=resnet8",
    "teacher=resnet8",
    "recipe.batch_size=20",
    "recipe.epochs=2",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a teacher, a student of it and an unfinished run."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    assert main(["train", *TINY, "loss=kd", "seed=1", f"runs_dir={runs}"]) == FINISHED
    student = next(runs.glob("resnet8-kd-s1-*"))
    unfinished = runs / "resnet8-kd-s7-0123456789ab"
    shutil.copytree(student, unfinished)
    for name in ("result.json", "student.safetensors"):
        (unfinished / name).unlink()
    return runs


@pytest.fixture
def source(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store, as it comes from another machine; the current folder holds nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "theirs" / "runs")
    (tmp_path / "theirs" / "runs" / ".hydra").mkdir()
    return tmp_path / "theirs" / "runs"


def bring(where: Path | str, *words: str) -> int:
    """The exit code of `distill import DIR`."""
    return main(["import", str(where), "runs_dir=ours", *words])


def train(*words: str) -> int:
    """The exit code of `distill train` in our store."""
    return main(["train", *TINY, "runs_dir=ours", *words])


def student(store: Path | str) -> Path:
    """The student's run."""
    (run,) = Path(store).glob("resnet8-kd-s1-*")
    return run


def teacher(store: Path | str) -> Path:
    """The teacher's run."""
    (run,) = Path(store).glob("resnet8-ce-s0-*")
    return run


def contents(folder: Path | str) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def table(where: Path | str, capsys: Capture) -> str:
    """The table of a store's finished runs."""
    capsys.readouterr()
    assert main(["table", f"runs_dir={where}"]) == FINISHED
    return capsys.readouterr().out.replace("1 unfinished not shown\n", "")


def test_finished_runs_come_whole_and_once(source: Path, capsys: Capture) -> None:
    assert bring("theirs") == FINISHED  # found below it
    told = capsys.readouterr().out
    assert f"left out: {source.relative_to(Path.cwd())}/resnet8-kd-s7-0123456789ab is unfinished" in told
    assert "3 runs in theirs: 2 imported, 1 not finished" in told
    assert sorted(path.name for path in Path("ours").iterdir()) == [teacher(source).name, student(source).name]
    ours, theirs = contents(student("ours")), contents(student(source))
    kept = {"config.yaml", "metrics.jsonl", "timing.jsonl", "provenance.json", "result.json", "student.safetensors"}
    assert kept <= ours.keys() <= kept | {"lock", ".config.json"}
    assert {name: ours[name] for name in kept} == {name: theirs[name] for name in kept}
    assert table("ours", capsys) == table(source, capsys)
    before = contents("ours")
    assert bring(source) == FINISHED
    assert "2 there already, 1 not finished" in capsys.readouterr().out
    assert contents("ours") == before
    assert train("loss=kd", "seed=1") == FINISHED
    assert "was finished before" in capsys.readouterr().out
    assert train("loss=zscore_kd", "seed=1") == FINISHED  # their teacher teaches here
    assert "will be trained first" not in capsys.readouterr().out


def test_averaged_weights_come_along(source: Path) -> None:
    assert main(["train", *TINY, "loss=ce", "recipe.ema=0.9", "seed=5", f"runs_dir={source}"]) == FINISHED
    (run,) = source.glob("*-s5-*")
    average = (run / "student_ema.safetensors").read_bytes()
    assert bring(run) == FINISHED
    copied = Path("ours", run.name, "student_ema.safetensors")
    assert copied.read_bytes() == average
    copied.unlink()
    assert bring(run) == FINISHED  # and a file that is missing here
    assert copied.read_bytes() == average
    copied.unlink()
    (run / "student_ema.safetensors").write_bytes(average[:-1] + b"x")
    assert bring(run) == FAILED
    assert not copied.exists()


def test_records_fill_tables_and_say_what_they_cannot_do(source: Path, capsys: Capture) -> None:
    assert main(["export", "--results", f"runs_dir={source}", "--out", "kept"]) == FINISHED
    assert bring("kept") == FINISHED
    told = capsys.readouterr().out
    assert "imported, a record without weights" in told
    assert "2 runs in kept: 2 imported" in told
    assert table("ours", capsys) == table(source, capsys)
    assert main(["export", "--results", "runs_dir=ours", "--out", "again"]) == FINISHED
    assert contents("again") == contents("kept")
    assert train("loss=kd", "seed=1") == FINISHED  # nothing is left to do for this one
    capsys.readouterr()
    run = teacher("ours").name.rpartition("-")[2]
    for words in (
        ["train", *TINY, "loss=zscore_kd"],
        ["train", *TINY, "loss=kd", f"teacher.run={run}"],
        ["evaluate", f"run={run}"],
        ["export", f"run={run}"],
    ):
        before = contents("ours")
        assert main([*words, "runs_dir=ours"]) == REFUSED
        told = capsys.readouterr()
        assert "is a record without weights, as `distill export --results` writes it: bring its" in told.err
        assert len(told.err.splitlines()) == 1
        assert contents("ours") == before
    assert bring(source) == FINISHED  # and now their weights
    assert "2 given their weights, 1 not finished" in capsys.readouterr().out
    assert train("loss=zscore_kd") == FINISHED
    assert contents(teacher("ours"))["student.safetensors"] == contents(teacher(source))["student.safetensors"]


def test_a_file_of_weights_makes_a_record_whole(source: Path, capsys: Capture) -> None:
    assert main(["export", "--results", f"runs_dir={source}", "--out", "kept"]) == FINISHED
    assert bring("kept") == FINISHED
    assert bring(teacher(source) / "student.safetensors") == FINISHED
    assert train("loss=zscore_kd") == FINISHED
    assert bring(teacher(source) / "student.safetensors") == FINISHED
    assert "is there already" in capsys.readouterr().out


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """A damage: a file of a run read, changed and written."""

    def damage(run: Path) -> None:
        path = unseal(run) / name
        if name.endswith(".yaml"):
            path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text())), sort_keys=False))
        else:
            path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


def part(*keys: str, to: Any) -> Callable[[Any], Any]:
    """A change of one value."""

    def change(content: Any) -> Any:
        node = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to
        return content

    return change


def retrained(run: Path) -> None:
    """The weights of another training, with their digest."""
    tensors = safetensors.torch.load_file(run / "student.safetensors")
    digest = save_weights(run / "student.safetensors", {name: tensor * 0.5 for name, tensor in tensors.items()})
    edited("result.json", part("weights_sha256", to=digest))(run)


HOSTILE = {"_target_": "distill.models.os.system", "command": "touch executed"}
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights": (lambda run: (run / "student.safetensors").write_bytes(b"x"), "is not the file its run recorded"),
    "identity": (edited("config.yaml", part("identity", "seed", to=5)), "its identity is not that of run"),
    "id": (edited("config.yaml", part("run_id", to="0123456789ab")), "its identity is not that of run 0123456789ab"),
    "aliases": (lambda run: (run / "config.yaml").write_text("a: &a [1]\nb: *a\n"), "it uses an alias"),
    "object": (
        lambda run: (run / "config.yaml").write_text("!!python/object/apply:os.system [touch executed]"),
        "damaged",
    ),
    "json": (lambda run: (run / "result.json").write_text("{"), "result.json is damaged: it is not valid JSON"),
    "nan": (
        edited("result.json", part("last", "accuracy", to=float("nan"))),
        "result.json is damaged: JSON has no number NaN",
    ),
    "half": (edited("result.json", lambda result: {"last": result["last"]}), "is missing or of a wrong type"),
    "other": (edited("result.json", part("run_id", to="0123456789ab")), "belongs to run 0123456789ab"),
    "accuracy": (edited("result.json", part("last", "accuracy", to=99.0)), "are not 99.0 %"),
    "export": (lambda run: (run / "export.json").write_text("{}"), "is an export, not a run"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_run_is_named_and_does_not_hide_the_others(source: Path, case: str, capsys: Capture) -> None:
    damage, sentence = DAMAGES[case]
    damage(unseal(student(source)))
    assert bring(source) == FAILED
    told = capsys.readouterr()
    assert sentence in told.err
    assert len(told.err.splitlines()) == 1
    assert "1 imported, 1 damaged, 1 not finished" in told.out
    assert [path.name for path in Path("ours").iterdir()] == [teacher(source).name]


def test_nothing_that_a_run_names_is_imported_or_built(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("evil.py").write_text("open('executed', 'w')")
    monkeypatch.syspath_prepend(Path.cwd())
    for target in ("evil.Network", "distill.models.os.system"):
        edited("config.yaml", part("config", "student", to={**HOSTILE, "_target_": target}))(student(source))
        assert bring(source) in (FINISHED, FAILED)
        shutil.rmtree("ours")
        edited("config.yaml", part("config", "loss", to={"_target_": target}))(student(source))
    assert not Path("executed").exists()
    assert "evil" not in importlib.sys.modules


def test_a_run_that_cannot_be_written_is_not_called_damaged(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError(f"could not write {path}: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module("distill.runs.files"), "write_bytes", full)
        assert bring(source) == FAILED
    told = capsys.readouterr()
    assert told.err.count("no space left on device") == 2
    assert "2 not writable, 1 not finished" in told.out
    assert not Path("ours").exists()
    assert bring(source) == FINISHED


def test_another_training_of_the_same_run_is_listed_and_left(source: Path, capsys: Capture) -> None:
    assert bring(source) == FINISHED
    before = contents("ours")
    retrained(student(source))
    assert bring(source) == FAILED
    told = capsys.readouterr()
    assert "is finished with another result than" in told.err
    assert "1 there already, 1 different from the run here, 1 not finished" in told.out
    assert contents("ours") == before


def test_what_is_at_work_or_half_trained_here_is_left(source: Path, capsys: Capture) -> None:
    assert bring(source) == FINISHED
    run = student("ours")
    (run / "result.json").unlink()
    with RunLock(run) as lock:
        assert lock.acquire()
        assert bring(source) == BUSY
        assert "is held by" in capsys.readouterr().err
    (run / "last.safetensors").write_bytes(b"x")
    assert bring(source) == FAILED
    assert "has been trained in part" in capsys.readouterr().err
    (run / "last.safetensors").unlink()
    assert bring(source) == FINISHED


def test_a_killed_import_is_finished_by_typing_it_again(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    module = importlib.import_module("distill.exchange.folders")

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_config", die)
        assert bring(source) == FAILED
    assert not Path("ours").exists()
    assert bring(source) == FINISHED


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["student=resnet8"], ["student= is for a file of weights"]),
        (["dataset.npz=x", "engine.device=cpu"], ["dataset.npz= is for", "engine.device= is for"]),
        (["--config-dir", "theirs"], ["--config-dir is for a file of weights"]),
        (["runs_dri=x"], ["did you mean 'runs_dir'?"]),
    ],
)
def test_words_for_files_are_refused(source: Path, words: list[str], sentences: list[str], capsys: Capture) -> None:
    assert bring(source, *words) == REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(sentences)
    assert all(sentence in line for sentence, line in zip(sentences, lines, strict=True))
    assert not Path("ours").exists()


def test_a_folder_without_runs_is_refused(source: Path, capsys: Capture) -> None:
    Path("empty").mkdir()
    assert bring("empty") == REFUSED
    assert capsys.readouterr().err == "empty holds no runs: a run's folder holds config.yaml\n"


def test_the_kept_results_come_as_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert bring(RESULTS) == FINISHED
    renamed = [path.name.replace("cross_entropy", "ce") for path in RESULTS.iterdir()]  # as this version calls them
    assert sorted(path.name for path in Path("ours").iterdir()) == sorted(renamed)
    assert table("ours", capsys) == table(RESULTS, capsys)
