"""The digests that a run keeps with its records: an edited number is found wherever it would be read."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from earlier import unseal

from distill.cli import main
from distill.exchange.folders import import_folder
from distill.runs.directory import RunDirectory
from distill.runs.files import StorageError, append_line
from distill.runs.identity import run_id
from distill.runs.records import SEAL, read_metrics, sealed
from distill.runs.store import RunRecord, finished_run, read_run

IDENTITY = {"seed": 1, "precision": "fp32", "data": {"holdout": 0}}
ID = run_id(IDENTITY)
CONTENT: dict[str, Any] = {
    "run_id": ID,
    "names": {"dataset": "digits", "student": "resnet8", "teacher": "none", "loss": "kd", "recipe": "demo"},
    "config": {
        "student": {"_target_": "distill.models.resnet8"},
        "dataset": {"_target_": "distill.data.digits", "npz": None},
        "loss": {"temperature": 4.0},
        "seed": 1,
    },
    "identity": IDENTITY,
}
WEIGHTS = {"weight": torch.zeros(2)}


def begin(runs_dir: Path) -> RunDirectory:
    run = RunDirectory(runs_dir / f"resnet8-kd-s1-{ID}")
    run.start(config=CONTENT, provenance={})
    return run


def trained(runs_dir: Path, *, epochs: int = 2, finish: bool = True) -> Path:
    run = begin(runs_dir)
    run.rewind(0)
    for epoch in range(1, epochs + 1):
        run.log_epoch({"epoch": epoch, "test": {"accuracy": 90.0 + epoch}})
        run.save(WEIGHTS, {"epoch": epoch + 1})
    if finish:
        last = {"epoch": epochs, "accuracy": 90.0 + epochs, "loss": float("nan")}
        result = {"seconds": 1.5, "split": "test", "classes": 10, "last": last, "best": last}
        run.finish(result, weights=WEIGHTS)
    return run.path


def in_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return edit


def record_of(run: Path) -> RunRecord:
    found = read_run(run)
    assert found is not None
    return found


def test_an_untouched_run_is_sealed_and_sound(runs_dir: Path) -> None:
    run = trained(runs_dir)
    assert set(json.loads((run / "result.json").read_text())[SEAL]) == {"config.yaml", "metrics.jsonl", "result.json"}
    assert finished_run(runs_dir, ID).status == "finished"
    assert len(read_metrics(run, record_of(run).result)) == 2


def test_layout_of_the_json_does_not_matter(runs_dir: Path) -> None:
    run = trained(runs_dir)
    (run / "result.json").write_text(json.dumps(json.loads((run / "result.json").read_text()), sort_keys=True))
    assert record_of(run).status == "finished"


EDITS = {
    "result": in_text("result.json", '"accuracy": 92.0', '"accuracy": 93.0'),
    "a new key": in_text("result.json", '"split"', '"epochs": 3, "split"'),
    "seal": in_text("result.json", '"config.yaml"', '"config.yml"'),
    "configuration": in_text("config.yaml", "temperature: 4.0", "temperature: 2.0"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_record_is_damaged_in_every_listing(
    runs_dir: Path, edit: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(trained(runs_dir))
    assert "has been changed since it was recorded" in record_of(next(runs_dir.iterdir())).message
    assert main(["table", f"runs_dir={runs_dir}"]) == 0
    assert "no finished run yet: 1 damaged" in capsys.readouterr().out
    with pytest.raises(StorageError, match="has been changed"):
        finished_run(runs_dir, ID)


def test_an_edited_identity_is_found_even_under_a_new_digest(runs_dir: Path) -> None:
    run = trained(runs_dir)
    in_text("config.yaml", "holdout: 0", "holdout: 5")(run)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(sealed(result, {"config.yaml": (run / "config.yaml").read_bytes()})))
    assert record_of(run).status == "finished"
    with pytest.raises(StorageError, match="its identity is not that of run"):
        finished_run(runs_dir, ID)


def test_edited_metrics_are_found_where_metrics_are_read(runs_dir: Path) -> None:
    run = trained(runs_dir)
    in_text("metrics.jsonl", "91.0", "95.0")(run)
    with pytest.raises(StorageError, match=r"metrics\.jsonl has been changed"):
        read_metrics(run, record_of(run).result)
    said: list[str] = []
    import_folder(runs_dir, runs_dir.parent / "ours", say=said.append, warn=said.append)
    assert "has been changed" in said[0]
    assert main(["export", "--results", f"runs_dir={runs_dir}", "--out", str(runs_dir.parent / "out")]) == 1


def test_records_of_earlier_versions_are_read_as_they_are(runs_dir: Path) -> None:
    run = unseal(trained(runs_dir))
    for edit in (EDITS["configuration"], in_text("metrics.jsonl", "91.0", "95.0")):
        edit(run)
    assert finished_run(runs_dir, ID).config["loss"] == {"temperature": 2.0}
    assert read_metrics(run, record_of(run).result)[0]["test"] == {"accuracy": 95.0}


def test_an_export_of_shortened_paths_has_a_seal_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENT["config"]["dataset"], "npz", "/data/mine.npz")
    trained(tmp_path / "runs")
    assert main(["export", "--results", f"runs_dir={tmp_path / 'runs'}", "--out", str(tmp_path / "out")]) == 0
    record = record_of(next((tmp_path / "out").iterdir()))
    assert (record.status, record.message) == ("finished", "")
    assert record.config["dataset"]["npz"] == "mine.npz"
    assert SEAL in (record.result or {})
    assert len(read_metrics(record.path, record.result)) == 2


def test_an_import_is_sealed_where_the_run_was(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "run"
    name = "timm_network.test_resnet-cross_entropy-s0-f583dd485eca"
    for store, is_sealed in (("earlier", False), ("today", True)):
        run = Path(shutil.copytree(golden / name, tmp_path / store / name))
        if is_sealed:
            files = {each: (run / each).read_bytes() for each in ("config.yaml", "metrics.jsonl")}
            result = json.loads((run / "result.json").read_text())
            (run / "result.json").write_text(json.dumps(sealed(result, files)))
        said: list[str] = []
        import_folder(tmp_path / store, tmp_path / f"{store}-ours", say=said.append, warn=said.append)
        (imported,) = (tmp_path / f"{store}-ours").iterdir()
        record = record_of(imported)
        assert (record.status, record.message) == ("finished", "")
        assert (SEAL in (record.result or {})) == is_sealed
        assert read_metrics(imported, record.result)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (in_text("config.yaml", "temperature: 4.0", "temperature: 2.0"), "config.yaml"),
        (in_text("metrics.jsonl", "91.0", "95.0"), "metrics.jsonl"),
    ],
    ids=["configuration", "metrics"],
)
def test_an_unfinished_run_is_checked_by_its_checkpoint(
    runs_dir: Path, edit: Callable[[Path], None], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(runs_dir, finish=False)
    append_line(run / "metrics.jsonl", {"epoch": 3, "test": {"accuracy": 1.0}})  # logged after the checkpoint
    assert main(["ls", f"runs_dir={runs_dir}"]) == 0
    assert "unfinished" in capsys.readouterr().out
    edit(run)
    assert main(["ls", f"runs_dir={runs_dir}"]) == 0
    assert f"{name} has been changed since it was recorded" in capsys.readouterr().out

    def resume() -> None:
        again = RunDirectory(run)
        again.load()
        again.rewind(2)

    with pytest.raises(StorageError, match=rf"{name} has been changed"):
        resume()


def test_a_configuration_without_a_checkpoint_is_written_anew(runs_dir: Path) -> None:
    run = begin(runs_dir)  # killed before its first checkpoint
    for edit in (
        in_text("config.yaml", "temperature: 4.0", "temperature: 2.0"),
        in_text("config.yaml", "loss:", "\x12"),
    ):
        edit(run.path)
        begin(runs_dir)
        assert yaml.safe_load((run.path / "config.yaml").read_bytes()) == CONTENT


def test_a_damaged_configuration_with_a_checkpoint_comes_with_a_remedy(runs_dir: Path) -> None:
    in_text("config.yaml", "loss:", "\x12")(trained(runs_dir, finish=False))
    with pytest.raises(StorageError, match=r"is damaged: .*; restore it, or delete the folder"):
        begin(runs_dir)


def test_a_resumed_run_goes_on_with_its_records(runs_dir: Path) -> None:
    run = trained(runs_dir, finish=False)
    append_line(run / "metrics.jsonl", {"epoch": 3})
    again = RunDirectory(run)
    loaded = again.load()
    assert loaded is not None
    assert loaded.state == {"epoch": 3}
    again.start(config=CONTENT, provenance={})
    again.rewind(2)
    again.log_epoch({"epoch": 3, "test": {"accuracy": 99.0}})
    again.save(WEIGHTS, {"epoch": 4})
    assert [line["epoch"] for line in read_metrics(run, None)] == [1, 2, 3]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml"])
@pytest.mark.parametrize("how", ["removed", "changed"])
def test_a_record_removed_while_the_run_is_at_work_is_noticed_and_not_lost(
    runs_dir: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = begin(runs_dir)
    run.rewind(0)
    run.log_epoch({"epoch": 1, "test": {"accuracy": 91.0}})
    before = (run.path / name).read_bytes()
    (run.path / name).unlink() if how == "removed" else (run.path / name).write_bytes(b"something else")
    with caplog.at_level(logging.WARNING):
        run.log_epoch({"epoch": 2, "test": {"accuracy": 92.0}})
    assert [record.message for record in caplog.records] == [
        f"{run.path / name} was {how} while the run was at work: it is written again"
    ]
    assert (run.path / name).read_bytes().startswith(before)
    assert [line["epoch"] for line in read_metrics(run.path, None)] == [1, 2]
    assert yaml.safe_load((run.path / "config.yaml").read_bytes()) == CONTENT


def test_a_copy_of_a_run_is_as_sound_as_the_run(runs_dir: Path) -> None:
    run = trained(runs_dir)
    shutil.copytree(run, runs_dir / f"copy-{ID}")
    assert record_of(runs_dir / f"copy-{ID}").status == "finished"
