"""The life of a run directory: start, log, save, resume, finish or fail."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from distill.runs import directory, files
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError
from distill.runs.store import scan

CONFIG: dict[str, Any] = {
    "run_id": "abc123def456",
    "names": {"dataset": "digits", "student": "resnet8", "teacher": "none", "loss": "kd", "recipe": "demo"},
    "config": {"loss": {"temperature": 4.0, "weights": [0.1, 0.9]}, "seed": 1, "teacher": None, "flip": True},
    "identity": {"seed": 1},
}
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3)}
RESULT = {"seconds": 1.5, "split": "test", "last": {"epoch": 2, "accuracy": 91.5}}


@pytest.fixture
def path(runs_dir: Path) -> Path:
    return runs_dir / "resnet8-kd-s1-abc123def456"


def begin(path: Path, *, commit: str = "c0") -> RunDirectory:
    run = RunDirectory(path)
    run.start(config=CONFIG, provenance={"commit": commit})
    return run


def train(run: RunDirectory, first: int, last: int) -> None:
    for epoch in range(first, last + 1):
        run.log_epoch({"epoch": epoch, "train": {"loss": 1 / epoch, "kd": 0.5}, "test": {"accuracy": 90.0 + epoch}})
        run.log_timing({"epoch": epoch, "seconds": 0.25})
        run.save(WEIGHTS, {"epoch": epoch})


def test_a_run_from_start_to_finish(path: Path) -> None:
    run = begin(path)
    assert run.load() is None
    run.rewind(0)
    train(run, 1, 2)
    assert not run.is_finished
    assert run.result is None
    final = run.finish(RESULT, weights=WEIGHTS)
    assert run.is_finished
    assert run.result == final
    assert final["run_id"] == "abc123def456"
    assert final["weights_sha256"] == hashlib.sha256((path / "student.safetensors").read_bytes()).hexdigest()
    assert sorted(os.listdir(path)) == [
        ".config.json",
        "config.yaml",
        "events.out.tfevents.0000000000",
        "metrics.jsonl",
        "provenance.json",
        "result.json",
        "student.safetensors",
        "timing.jsonl",
    ]
    (record,) = scan(path.parent)
    assert (record.status, record.run_id, record.config) == ("finished", "abc123def456", CONFIG["config"])


def test_averaged_weights_lie_beside_the_students(path: Path) -> None:
    averaged = {"weight": WEIGHTS["weight"] + 1}
    final = begin(path).finish(RESULT, weights=WEIGHTS, averaged=averaged)
    for name, key, weights in (("student", "weights", WEIGHTS), ("student_ema", "ema", averaged)):
        stored = (path / f"{name}.safetensors").read_bytes()
        assert final[f"{key}_sha256"] == hashlib.sha256(stored).hexdigest()
        assert torch.equal(safetensors.torch.load(stored)["weight"], weights["weight"])


def test_result_json_is_written_after_the_weights_and_before_the_checkpoints_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(path)
    train(run, 1, 1)

    def full(target: Path, value: object = None) -> None:
        raise StorageError(f"could not write {target}")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_json", full)
        with pytest.raises(StorageError, match=r"result\.json"):
            run.finish(RESULT, weights=WEIGHTS)
    assert not run.is_finished
    assert {"student.safetensors", "last.safetensors"} <= set(os.listdir(path))
    with monkeypatch.context() as patch:
        patch.setattr(directory, "remove_checkpoints", full)  # the process dies right after its result
        with pytest.raises(StorageError):
            begin(path).finish(RESULT, weights=WEIGHTS)
    assert run.is_finished
    assert "last.safetensors" in os.listdir(path)
    run.tidy()
    assert "last.safetensors" not in os.listdir(path)


def test_tidy_leaves_an_unfinished_run_alone(path: Path) -> None:
    run = begin(path)
    train(run, 1, 1)
    run.tidy()
    assert run.load() is not None


def test_a_resumed_run_writes_the_same_lines_as_an_uninterrupted_one(path: Path) -> None:
    whole = begin(path.with_name("whole"))
    whole.rewind(0)
    train(whole, 1, 4)

    train(begin(path), 1, 2)
    interrupted = begin(path)
    loaded = interrupted.load()
    assert loaded is not None
    assert loaded.state == {"epoch": 2}
    interrupted.rewind(2)
    train(interrupted, 3, 3)
    interrupted.log_epoch({"epoch": 4, "train": {"loss": 77.0}})  # logged, but killed before it was saved
    interrupted.log_timing({"epoch": 4, "seconds": 77.0})
    with open(path / "timing.jsonl", "ab") as file:
        file.write(b'{"epoch": 5, "sec')
    resumed = begin(path)
    resumed.rewind(3)
    train(resumed, 4, 4)
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert (path / name).read_bytes() == (whole.path / name).read_bytes()


def test_tensorboard_follows_the_logs_across_a_resume_and_gets_the_hyperparameters(path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(begin(path), 1, 3)
    run = begin(path)
    run.rewind(2)
    train(run, 3, 3)
    run.finish(RESULT, weights=WEIGHTS)
    events = EventAccumulator(str(path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss", "train/kd", "test/accuracy", "timing/seconds"]
    accuracies = [(event.step, event.value) for event in events.Scalars("test/accuracy")]
    assert accuracies == [(1, 91.0), (2, 92.0), (3, 93.0)]
    assert b"loss.temperature" in events.PluginTagToContent("hparams")["_hparams_/session_start_info"]


def test_a_log_that_lacks_an_epoch_of_the_checkpoint_is_refused(path: Path) -> None:
    run = begin(path)
    train(run, 1, 3)
    (path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 3}\n')
    with pytest.raises(StorageError, match=r"does not hold epochs 1 to 3 .* delete the folder"):
        begin(path).rewind(3)


def test_the_lines_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(files, "sync", lambda target: order.append(target.name))
    monkeypatch.setattr(directory, "save_checkpoint", lambda *arguments: order.append("checkpoint"))
    begin(path).save(WEIGHTS, {})
    assert order == ["metrics.jsonl", "checkpoint"]


def test_provenance_is_kept_and_every_later_session_joins_it(path: Path) -> None:
    begin(path, commit="c1")
    begin(path, commit="c2")
    begin(path, commit="c3")
    provenance = json.loads((path / "provenance.json").read_text())
    assert provenance["commit"] == "c1"
    assert [session["commit"] for session in provenance["sessions"]] == ["c2", "c3"]
    (path / "provenance.json").write_text("{")
    begin(path, commit="c4")
    provenance = json.loads((path / "provenance.json").read_text())
    assert "damaged" in provenance["note"]
    assert [session["commit"] for session in provenance["sessions"]] == ["c4"]


def test_the_config_of_the_first_session_with_a_checkpoint_stays(path: Path) -> None:
    train(begin(path), 1, 1)
    before = (path / "config.yaml").read_bytes()
    RunDirectory(path).start(config=CONFIG | {"config": {"engine": "other"}}, provenance={})
    assert (path / "config.yaml").read_bytes() == before


def test_a_folder_of_another_run_is_refused(path: Path) -> None:
    begin(path)
    with pytest.raises(ValueError, match="belongs to run abc123def456, not fff"):
        RunDirectory(path).start(config=CONFIG | {"run_id": "fff"}, provenance={})


def test_a_finished_run_is_not_started_again(path: Path) -> None:
    begin(path).finish(RESULT, weights=WEIGHTS)
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    with pytest.raises(ValueError, match="is finished"):
        begin(path)
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before


def test_a_failure_keeps_the_last_good_state_and_waits_for_retry(path: Path) -> None:
    run = begin(path)
    train(run, 1, 2)
    run.fail({"epoch": 3, "step": 7, "term": "kd", "message": "kd is not finite"})
    assert run.failure is not None
    assert run.failure | {"when": ""} == {
        "epoch": 3,
        "step": 7,
        "term": "kd",
        "message": "kd is not finite",
        "when": "",
    }
    assert [record.status for record in scan(path.parent)] == ["failed"]
    with pytest.raises(ValueError, match="add --retry"):
        begin(path)
    run.clear_failure()
    run.clear_failure()
    loaded = begin(path).load()
    assert loaded is not None
    assert loaded.state == {"epoch": 2}


def test_leftovers_of_a_killed_session_go_at_the_next_start(path: Path) -> None:
    begin(path)
    files.temporary_path(path / "last.safetensors").write_bytes(b"half a checkpoint")
    begin(path)
    assert not list(path.glob(".*.tmp"))


def test_a_run_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="choose a folder you can write to with runs_dir=DIR"):
        begin(tmp_path / "runs" / "run")
