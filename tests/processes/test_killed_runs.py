"""Runs that are killed at any instant end as if nothing had happened."""

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from photographs import write_folder
from process_lab import BASELINE, DISTILLED, STEPS, Lab, Server, assert_equal_runs, contents

KILLS = 20
WORDS = (*DISTILLED, "recipe.epochs=5")  # 12 steps of the teacher, then 20 of its student


class Slaughter:
    """One command, killed and typed again until `KILLS` processes have died; every run that ends is kept."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.draw = lab, random.Random(0)
        self.dead: list[dict[str, Any]] = []
        self.ended: list[Path] = []
        while len(self.dead) < KILLS:
            self.attempt()
        self.attempt(kill=False)

    def attempt(self, *, kill: bool = True) -> None:
        number = len(self.dead)
        runs_dir = f"runs{len(self.ended)}"
        words, hooks = (*WORDS, f"runs_dir={runs_dir}"), {"checkpoints": "every step"}
        if not kill:
            ended = self.lab.run(*words)
        elif number % 3 == 0:  # at any instant of the clock
            running = self.lab.start(*words, **hooks, pace=0.02)
            if running.reaches_step():
                time.sleep(self.draw.uniform(0, 0.15))
            ended, report = running.kill(), {}
        else:  # at any thing done to the disk, every other time within a checkpoint
            within = {"within": "save"} if number % 3 == 1 else {}
            running = self.lab.start(*words, **hooks, die={"count": self.draw.randint(1, 20), **within})
            ended = running.end()
            assert ended.code in (0, -9), ended
            report = json.loads(running.report.read_text(encoding="utf-8")) if ended.code else {}
        assert ended.code in (0, -9), ended
        if ended.code:
            self.dead.append(report)
        else:
            self.ended.append(self.lab.cwd / runs_dir)


@pytest.fixture(scope="module")
def slaughter(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Slaughter:
    return Slaughter(Lab(server, tmp_path_factory.mktemp("slaughter")))


@pytest.fixture(scope="module")
def uninterrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teacher and student trained at one go, with the ordinary schedule."""
    lab = Lab(server, tmp_path_factory.mktemp("uninterrupted"))
    assert lab.run(*WORDS).code == 0
    return lab.runs


def test_at_least_twenty_processes_were_killed_and_some_of_them_inside_a_checkpoint(slaughter: Slaughter) -> None:
    inside = [kill["event"] for kill in slaughter.dead if "save" in kill.get("inside", ())]
    assert len(slaughter.dead) >= 20
    assert len(inside) >= 5
    assert len(set(inside)) >= 3  # a half-written file, a missing rename, a sync that was not done


@pytest.mark.parametrize("name", ["Tiny-ce-s0", "Tiny-kd-s1"])
def test_killed_runs_end_byte_for_byte_like_an_uninterrupted_one(
    slaughter: Slaughter, uninterrupted: Path, name: str
) -> None:
    (other,) = uninterrupted.glob(f"{name}-*")
    for runs in slaughter.ended:
        assert_equal_runs(runs / other.name, other)


def test_a_kill_inside_an_epoch_loses_no_step_that_was_saved(lab: Lab, reference: Path) -> None:
    running = lab.start(*BASELINE, checkpoints="every step", gate=STEPS + 2)
    running.reaches_step()
    running.kill()
    again = lab.run(*BASELINE)
    assert f"{reference.name} resumes at epoch 2, step 2\n" in again.out
    assert "epoch 1/3" not in again.out
    assert_equal_runs(lab.runs / reference.name, reference)


def test_a_kill_inside_an_epoch_of_photographs(lab: Lab, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "photographs", classes=6, train=6, val=3)
    words = ("train", "dataset=image_folder", f"dataset.root={root}", "dataset.size=24", "dataset.resize=28")
    words += ("student._target_=tiny_student.Tiny", "loss=ce", "recipe=demo", "recipe.epochs=2", "recipe.batch_size=8")
    assert lab.run(*words, "runs_dir=whole").code == 0
    running = lab.start(*words, checkpoints="every step", gate=7)  # of ten steps
    running.reaches_step()
    running.kill()
    again = lab.run(*words)
    assert " resumes at epoch 2, step 2\n" in again.out
    run = lab.run_of("Tiny-ce-s1")
    assert_equal_runs(run, lab.cwd / "whole" / run.name)


@pytest.fixture(scope="module")
def almost_finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """`BASELINE` killed after its last step, when the result was to be written."""
    lab = Lab(server, tmp_path_factory.mktemp("almost"))
    ended = lab.run(*BASELINE, checkpoints="every step", die={"count": 1, "within": "finish"})
    assert ended.code == -9
    return lab


@pytest.mark.parametrize("count", [4, 7, 11, 12, 13])
def test_a_kill_between_the_weights_and_the_end_leaves_nothing_behind(
    almost_finished: Lab, reference: Path, count: int
) -> None:
    lab = almost_finished
    words = (*BASELINE, f"runs_dir=killed{count}")
    shutil.copytree(lab.runs, lab.cwd / f"killed{count}")
    run = lab.cwd / f"killed{count}" / reference.name
    killed = lab.start(*words, die={"count": count, "within": "finish"})
    assert killed.end().code == -9
    assert "last.safetensors" in contents(run) or "previous.safetensors" in contents(run)
    again = lab.run(*words)
    assert again.code == 0
    assert "finished" in again.out
    assert_equal_runs(run, reference)


def test_checkpoints_are_thinned_where_they_would_take_more_than_two_percent(lab: Lab) -> None:
    words = (*BASELINE, "recipe.epochs=20", "engine.checkpoint_seconds=0")
    running = lab.start(*words, accounts=True)
    assert running.end().code == 0
    accounts = json.loads(running.report.read_text(encoding="utf-8"))
    costs = accounts["costs"]
    assert accounts["steps"] == 20 * STEPS
    assert 1 <= len(costs) < accounts["steps"] / 2
    # what a save will cost is known from the one before: only the last can have been a surprise
    assert sum(costs[:-1]) <= 0.02 * accounts["seconds"]
