"""Two processes that want the same run: one has it, and the other says so."""

import json
import os
import signal
from pathlib import Path

from process_lab import BASELINE, DISTILLED, STEPS, Lab, assert_equal_runs

TEACHER = "Tiny-ce-s0"


def sessions(run: Path) -> int:
    """How many processes have worked on a run."""
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    return 1 + len(provenance["sessions"])


def test_the_second_process_on_a_run_says_who_has_it_and_stops_with_3(lab: Lab, reference: Path) -> None:
    first = lab.start(*BASELINE, gate=2)
    first.reaches_step()
    second = lab.run(*BASELINE)
    assert (second.code, second.out) == (3, "")
    assert f"runs/{reference.name} is being trained by process {first.pid} on {os.uname().nodename} since" in second.err
    assert len(second.err.splitlines()) == 1
    first.passes()
    assert first.end().code == 0
    assert_equal_runs(lab.runs / reference.name, reference)


def test_in_a_sweep_a_run_that_another_process_has_is_left_and_the_others_go_on(lab: Lab, reference: Path) -> None:
    first = lab.start(*BASELINE, gate=2)
    first.reaches_step()
    sweep = lab.run(*BASELINE, "-m", "seed=1,2")
    first.passes()
    assert first.end().code == 0
    assert sweep.code == 3
    assert "1 of 2 runs finished" in sweep.out
    assert f"busy: runs/{reference.name} is being trained by process {first.pid}" in sweep.out


def test_two_sweeps_that_need_one_teacher_train_it_once(lab: Lab) -> None:
    first = lab.start(*DISTILLED, "-m", "seed=1,2", gate=2)
    first.reaches_step()
    second = lab.start(*DISTILLED, "-m", "seed=3")
    second.says(f"waiting for {lab.run_of(TEACHER).name}: process {first.pid} ")
    first.passes()
    ends = [first.end(), second.end()]
    assert [end.code for end in ends] == [0, 0]
    assert f"{lab.run_of(TEACHER).name}  epoch" not in ends[1].out
    assert sessions(lab.run_of(TEACHER)) == 1
    assert len(list(lab.runs.glob("Tiny-kd-*/result.json"))) == 3


def test_who_waits_for_a_teacher_takes_over_when_its_trainer_dies(lab: Lab, reference: Path) -> None:
    words = (*DISTILLED, "teacher.seed=1")  # the teacher is then the reference run itself
    first = lab.start(*words, "seed=2", checkpoints="every step", gate=STEPS + 2)
    first.reaches_step()
    second = lab.start(*words, "seed=3")
    second.says(f"waiting for {reference.name}: process {first.pid} ")
    first.kill()
    ended = second.end()
    assert ended.code == 0
    assert f"{reference.name} resumes at epoch 2, step 2" in ended.out
    assert sessions(lab.runs / reference.name) == 2
    assert_equal_runs(lab.runs / reference.name, reference)
    assert not list(lab.runs.glob("Tiny-kd-s2-*/result.json"))


def test_a_sweep_does_not_wait_for_the_teacher_that_is_one_of_its_own_runs(lab: Lab, reference: Path) -> None:
    words = (*DISTILLED, "teacher.seed=1", "-m", "seed=1", "loss=ce,kd", "hydra/launcher=cohort")
    ended = lab.run(*words)
    assert ended.code == 0
    assert "2 of 2 runs finished" in ended.out
    assert sessions(lab.runs / reference.name) == 1
    assert_equal_runs(lab.runs / reference.name, reference)


def test_who_waits_can_be_stopped(lab: Lab) -> None:
    first = lab.start(*DISTILLED, "seed=1", gate=2)
    first.reaches_step()
    second = lab.start(*DISTILLED, "seed=2")
    second.says("waiting for ")
    second.signal(signal.SIGINT)
    ended = second.end()
    assert ended.code == 1
    assert ended.traceless
    assert "type the command again" in ended.err
    first.kill()
