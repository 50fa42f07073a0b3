"""No room, no permission: a sentence, nothing lost, and the run goes on when there is room."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from process_lab import BASELINE, STEPS, TINY, Ended, Lab, assert_equal_runs, stamps


def refused_by_the_disk(ended: Ended, file: str) -> bool:
    """The run failed with a sentence about `file`."""
    return ended.code == 1 and ended.traceless and file in ended.err


@pytest.mark.parametrize(
    ("limit", "file", "resumes"),
    [
        ({"save": STEPS + 1 + 3, "bytes": 9_000}, "last.safetensors", "resumes at epoch 2, step 2"),
        ({"epoch": 2}, "metrics.jsonl", "resumes at epoch 2, step 4"),
    ],
)
def test_a_full_disk_stops_the_run_with_a_sentence_and_it_resumes_when_there_is_room(
    lab: Lab, reference: Path, limit: dict[str, Any], file: str, resumes: str
) -> None:
    ended = lab.run(*BASELINE, checkpoints="every step", limit=limit)
    assert refused_by_the_disk(ended, file)
    assert "the file is larger than the limit set for it; raise the limit" in ended.err
    assert not list(lab.runs.rglob("*.tmp"))
    again = lab.run(*BASELINE)
    assert again.code == 0
    assert resumes in again.out
    assert_equal_runs(lab.runs / reference.name, reference)


def test_a_sweep_on_a_full_disk_touches_no_finished_run_and_lists_what_failed(lab: Lab, reference: Path) -> None:
    finished = lab.runs / reference.name
    shutil.copytree(reference, finished)
    before = stamps(finished)
    words = (*TINY, "loss=ce", "-m", "seed=1,2,3")
    ended = lab.run(*words, checkpoints="every step", limit={"save": 2, "bytes": 9_000})
    assert refused_by_the_disk(ended, "last.safetensors")
    assert "1 of 3 runs finished" in ended.out
    assert ended.out.count("\nfailed: could not write ") == 2
    assert stamps(finished) == before


@pytest.fixture
def read_only(lab: Lab, reference: Path) -> Lab:
    """A folder of runs that nobody may write to, with one finished run in it."""
    shutil.copytree(reference, lab.runs / reference.name)
    lab.runs.chmod(0o555)
    return lab


@pytest.mark.parametrize("seeds", [["seed=2"], ["-m", "seed=2,3"]])
def test_a_read_only_folder_is_a_sentence(read_only: Lab, seeds: list[str]) -> None:
    before = stamps(read_only.cwd)
    ended = read_only.run(*TINY, "loss=ce", *seeds, powerless=True)
    assert refused_by_the_disk(ended, "runs")
    assert "permission denied" in ended.err
    assert "runs_dir=DIR" in ended.err
    assert stamps(read_only.cwd) == before


def test_a_finished_run_in_a_read_only_folder_still_answers(read_only: Lab) -> None:
    ended = read_only.run(*BASELINE, powerless=True)
    assert ended.code == 0
    assert "was finished before" in ended.out
