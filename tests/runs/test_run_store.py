"""Listing and finding runs: the status comes from the files, and one damaged run never hides another."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.runs import config_file
from distill.runs.config_file import write_config
from distill.runs.files import StorageError
from distill.runs.layout import run_path
from distill.runs.lock import RunLock
from distill.runs.store import RunRecord, find, read_run, scan


def config_of(run_id: str) -> dict[str, Any]:
    """What `config.yaml` of a run holds."""
    recipe = {
        "epochs": 240,
        "milestones": [150, 180],
        "weight_decay": 5e-4,
        "note": "a: b # c\nd",
        "none": None,
    }
    return {
        "run_id": run_id,
        "names": {
            "dataset": "digits",
            "student": "resnet8",
            "teacher": "none",
            "loss": "kd",
            "recipe": "demo",
        },
        "config": {"seed": 1, "recipe": recipe, "teacher": recipe},
        "identity": {"seed": 1, "recipe": recipe},
    }


def add_run(runs_dir: Path, run_id: str, **contents: str) -> Path:
    """A run with the given files: `result='{}'` writes result.json."""
    path = run_path(runs_dir, student="resnet8", objective="kd", seed=1, run_id=run_id)
    path.mkdir(parents=True)
    write_config(path, config_of(run_id))
    for name, content in contents.items():
        (path / f"{name}.json").write_text(content)
    return path


def statuses(runs_dir: Path) -> dict[str, str]:
    return {record.run_id: record.status for record in scan(runs_dir)}


def test_the_status_is_what_the_files_say(runs_dir: Path) -> None:
    add_run(runs_dir, "aaa1", result='{"seconds": 1}')
    add_run(runs_dir, "aaa2", failed='{"epoch": 3}')
    add_run(runs_dir, "aaa3")
    running = add_run(runs_dir, "aaa4")
    add_run(runs_dir, "aaa5", result="{}", failed="{}")
    with RunLock(running) as lock:
        assert lock.acquire()
        assert statuses(runs_dir) == {
            "aaa1": "finished",
            "aaa2": "failed",
            "aaa3": "unfinished",
            "aaa4": "running",
            "aaa5": "finished",
        }
    assert statuses(runs_dir)["aaa4"] == "unfinished"


def test_a_record_holds_what_was_written(runs_dir: Path) -> None:
    path = add_run(runs_dir, "abc", result='{"seconds": 1.5}')
    content = config_of("abc")
    assert scan(runs_dir) == [
        RunRecord(
            path=path,
            run_id="abc",
            status="finished",
            names=content["names"],
            config=content["config"],
            identity=content["identity"],
            result={"seconds": 1.5},
            failure=None,
        )
    ]


def test_a_store_that_is_missing_or_empty_holds_no_runs(runs_dir: Path) -> None:
    assert scan(runs_dir) == []
    assert scan(runs_dir / "absent") == []
    assert not (runs_dir / "absent").exists()


def test_a_store_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="could not read"):
        scan(tmp_path / "runs")


def test_other_folders_and_files_are_no_runs(runs_dir: Path) -> None:
    (runs_dir / "notes.txt").write_text("mine")
    (runs_dir / "empty").mkdir()
    (runs_dir / "locked-only").mkdir()
    (runs_dir / "locked-only" / "lock").write_text("")
    assert scan(runs_dir) == []


DAMAGE = {
    "config.yaml": [
        b"run_id: [",
        b"\xff\xff",
        b"",
        b"- 1",
        b"run_id: abc\nnames: 1",
        b"a: 2020-13-45",
        b"a: " + b"[" * 100_000 + b"]" * 100_000,
        b"- " * 100_000,
        b"run_id: abc\nnames: &a {}\nconfig: *a\nidentity: {}",
        b"run_id: ../x\nnames: {}\nconfig: {}\nidentity: {}",
    ],
    "result.json": [b"{", b"[]", b"\xff", b""],
    "failed.json": [b"{"],
}


@pytest.mark.parametrize(("name", "content"), [(name, c) for name, many in DAMAGE.items() for c in many])
def test_a_damaged_run_is_listed_as_such_beside_the_others(runs_dir: Path, name: str, content: bytes) -> None:
    bad = add_run(runs_dir, "bad1")
    add_run(runs_dir, "good", result="{}")
    (bad / name).write_bytes(content)
    records = {record.run_id: record for record in scan(runs_dir)}
    assert records["good"].status == "finished"
    assert records["bad1"].status == "damaged"
    assert str(bad / name) in records["bad1"].message
    assert "\n" not in records["bad1"].message


def test_a_run_without_its_config_is_damaged(runs_dir: Path) -> None:
    path = add_run(runs_dir, "abc", result="{}")
    (path / "config.yaml").unlink()
    (record,) = scan(runs_dir)
    assert (record.run_id, record.status) == ("abc", "damaged")


@pytest.mark.parametrize("loader", [None, "SafeLoader"], ids=["as it is", "without libyaml"])
def test_a_hostile_tag_executes_nothing(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loader: str | None
) -> None:
    if loader is not None:
        monkeypatch.setattr(config_file, "_Loader", getattr(yaml, loader))
    canary = tmp_path / "canary"
    hostile = f"run_id: !!python/object/apply:os.system ['touch {canary}']\n"
    path = add_run(runs_dir, "abc")
    add_run(runs_dir, "good")
    (path / "config.yaml").write_text(hostile + "names: {}\nconfig: {}\nidentity: {}\n")
    assert statuses(runs_dir) == {"abc": "damaged", "good": "unfinished"}
    assert not canary.exists()
    yaml.unsafe_load(hostile)
    assert canary.exists()  # the trap works: a loader of python objects falls into it


def test_find_by_head_of_the_id_by_folder_and_by_path(runs_dir: Path) -> None:
    path = add_run(runs_dir, "abc123")
    add_run(runs_dir, "abd456")
    for text in ("abc", "abc123", "ABC1", path.name, str(path)):
        assert find(runs_dir, text).path == path
    assert find(runs_dir / "elsewhere", str(path)).run_id == "abc123"


def test_find_lists_what_is_ambiguous(runs_dir: Path) -> None:
    first, second = add_run(runs_dir, "abc123"), add_run(runs_dir, "abd456")
    with pytest.raises(ValueError, match=r"'ab' matches 2 runs: .* give more of the id, or a path") as caught:
        find(runs_dir, "ab")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_find_names_the_nearest_when_nothing_matches(runs_dir: Path) -> None:
    add_run(runs_dir, "abc123def456")
    add_run(runs_dir, "777777777777")
    with pytest.raises(ValueError, match=r"no run matches 'abc132': the nearest is abc123def456") as caught:
        find(runs_dir, "abc132")
    assert "7777" not in str(caught.value)
    with pytest.raises(ValueError, match=r"no run matches 'zzz' among the 2 in .*`distill ls`"):
        find(runs_dir, "zzz")
    with pytest.raises(ValueError, match="no run matches ''"):
        find(runs_dir, "")


def test_find_in_an_empty_store_and_at_a_path_without_a_run(runs_dir: Path) -> None:
    with pytest.raises(ValueError, match="holds no runs"):
        find(runs_dir, "abc")
    with pytest.raises(ValueError, match="no run at"):
        find(runs_dir, str(runs_dir / "absent"))
    assert read_run(runs_dir) is None


def test_a_path_of_presets_in_folders_stays_one_folder_name(tmp_path: Path) -> None:
    path = run_path(tmp_path, student="timm/../x", objective="ablation/mean_only", seed=3, run_id="abc")
    assert path == tmp_path / "timm_.._x-ablation_mean_only-s3-abc"


def test_a_listing_opens_three_files_of_a_finished_run_and_parses_what_runs_have_in_common_once(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        add_run(runs_dir, f"{number:03d}", result='{"seconds": 1}')
    monkeypatch.setattr(yaml, "load", pytest.fail)  # YAML would take most of a second for 500 runs
    opened, parsed = [], []
    open_file, parse = os.open, config_file.parse_json
    monkeypatch.setattr(os, "open", lambda path, *flags: (opened.append(path), open_file(path, *flags))[1])
    monkeypatch.setattr(config_file, "parse_json", lambda line: (parsed.append(line), parse(line))[1])
    config_file._shared_part.cache_clear()
    assert len(scan(runs_dir)) == 50
    assert len(opened) == 3 * 50  # result, configuration, its copy
    assert len(parsed) == len(set(parsed)) == 50 + 10  # ids, and the parts that all have


def test_the_store_answers_without_torch() -> None:
    code = "import sys, distill.runs.store, distill.runs.identity; sys.exit('torch' in sys.modules)"
    root = Path(config_file.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == 0
