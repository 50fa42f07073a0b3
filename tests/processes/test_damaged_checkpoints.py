"""Checkpoints that were truncated, altered or replaced by something hostile."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from process_lab import BASELINE, STEPS, Lab, Server, assert_equal_runs

from distill.runs.checkpoint import save_checkpoint


class TouchFile:
    """A pickle of it creates a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("pickle-was-loaded", "w"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(TouchFile()))


@pytest.fixture(scope="module")
def killed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """`BASELINE` killed with checkpoints at steps 2 and 1 of its second epoch."""
    lab = Lab(server, tmp_path_factory.mktemp("killed"))
    running = lab.start(*BASELINE, checkpoints="every step", gate=STEPS + 2)
    running.reaches_step()
    running.kill()
    return lab


@pytest.mark.parametrize("damage", [truncate, alter, empty, replace_by_pickle])
def test_the_checkpoint_before_a_damaged_one_is_used(
    killed: Lab, reference: Path, damage: Callable[[Path], None]
) -> None:
    runs = killed.cwd / damage.__name__
    shutil.copytree(killed.runs, runs)
    damage(runs / reference.name / "last.safetensors")
    ended = killed.run(*BASELINE, f"runs_dir={runs.name}")
    assert ended.code == 0
    assert f"{runs.name}/{reference.name}/last.safetensors could not be used" in ended.out
    assert "continuing from the checkpoint before it" in ended.out
    assert "resumes at epoch 2, step 1" in ended.out
    assert_equal_runs(runs / reference.name, reference)
    assert not (killed.cwd / "pickle-was-loaded").exists()


def test_a_checkpoint_of_something_else_is_a_sentence(killed: Lab, reference: Path) -> None:
    runs = killed.cwd / "foreign"
    shutil.copytree(killed.runs, runs)
    save_checkpoint(runs / reference.name, {"student/weight": torch.zeros(3)}, {"epoch": 2})
    ended = killed.run(*BASELINE, "runs_dir=foreign")
    assert ended.code == 1
    assert ended.traceless
    assert f"the checkpoint of foreign/{reference.name} is of another version of distill" in ended.err
    assert "delete this folder to start the run again" in ended.err


def test_where_no_generation_can_be_used_the_sentence_says_what_to_do(killed: Lab, reference: Path) -> None:
    runs = killed.cwd / "both"
    shutil.copytree(killed.runs, runs)
    truncate(runs / reference.name / "last.safetensors")
    replace_by_pickle(runs / reference.name / "previous.safetensors")
    ended = killed.run(*BASELINE, "runs_dir=both")
    assert ended.code == 1
    assert ended.traceless
    assert f"no checkpoint of both/{reference.name} can be used" in ended.err
    assert "delete this folder to start the run again" in ended.err
    assert not (killed.cwd / "pickle-was-loaded").exists()
