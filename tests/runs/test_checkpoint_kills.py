"""Real SIGKILLs and a real file-size limit, in child processes that write checkpoints in a loop."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import distill

ROOT = Path(next(iter(distill.__path__))).parent
Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What `checkpoint_killer.py` found; it fails by itself when a checkpoint is a mixture or lost."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("checkpoint_killer.py")),
        str(tmp_path_factory.mktemp("run")),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Report = json.loads(done.stdout.splitlines()[-1])
    return found


def test_after_every_kill_there_is_a_whole_checkpoint_that_is_not_older_than_the_last_one_saved(
    report: Report,
) -> None:
    assert len(report["kills"]) == 25
    assert all(kill["saves"] >= 1 for kill in report["kills"])


def test_some_kills_fell_inside_a_write(report: Report) -> None:
    assert sum(kill["inside"] for kill in report["kills"]) >= 3


def test_last_is_never_missing_while_it_is_replaced(report: Report) -> None:
    assert [kill["missing"] for kill in report["kills"]] == [0] * 25


def test_a_file_size_limit_is_a_sentence_and_both_generations_and_the_lines_stay(report: Report) -> None:
    limit = report["limit"]
    assert len(limit["told"]) == 2
    for name, sentence in zip(("last.safetensors", "metrics.jsonl"), limit["told"], strict=True):
        assert f"{name}: the file is larger than the limit set for it; raise the limit" in sentence
        assert "type the command again: the run resumes from its last checkpoint" in sentence
    assert (limit["last"], limit["previous"]) == (2, 1)
    assert limit["log_kept"]


def test_a_failed_write_leaves_no_temporary_file(report: Report) -> None:
    events = "events.out.tfevents.0000000000"  # TensorBoard ran into the limit too, and nobody died of it
    assert report["limit"]["left"] == [events, "last.safetensors", "metrics.jsonl", "previous.safetensors"]
