"""Ctrl-C and `kill`: the state is saved, and the same command goes on."""

import signal
import time
from pathlib import Path

import pytest
from process_lab import BASELINE, STEPS, TINY, Lab, assert_equal_runs

LONG = (*BASELINE, "recipe.epochs=20")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_the_run_resumes_where_it_was(
    lab: Lab, reference: Path, number: signal.Signals
) -> None:
    running = lab.start(*BASELINE, gate=STEPS + 3)
    running.reaches_step()
    running.signal(number)
    running.passes()
    ended = running.end()
    assert ended.code == 1
    assert ended.err == "stopped at epoch 2, step 3: type the command again to go on\n"
    again = lab.run(*BASELINE)
    assert "resumes at epoch 2, step 3" in again.out
    assert_equal_runs(lab.runs / reference.name, reference)


def test_a_second_signal_stops_at_once_and_loses_what_was_not_saved(lab: Lab, reference: Path) -> None:
    running = lab.start(*BASELINE, gate=STEPS + 3)
    running.reaches_step()
    running.signal(signal.SIGINT)
    while running.has_pending(signal.SIGINT):
        time.sleep(0.01)
    time.sleep(0.1)  # two at the same moment are one
    running.signal(signal.SIGINT)
    ended = running.end()
    assert ended.code == 1
    assert ended.err == "stopped: type the command again to go on\n"
    again = lab.run(*BASELINE)
    assert "resumes" not in again.out
    assert_equal_runs(lab.runs / reference.name, reference)


def test_a_real_command_is_stopped_with_sigterm_and_resumes_byte_for_byte(lab: Lab) -> None:
    running = lab.real(*LONG, "runs_dir=stopped", TINY_STUDENT_SECONDS="0.05")
    assert running.stdout is not None
    assert "20 epochs, batch size 16" in running.stdout.readline()
    assert "epoch 1/20" in running.stdout.readline()
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert err.startswith("stopped at epoch ")
    assert "finished" not in out
    assert lab.run(*LONG, "runs_dir=stopped").code == 0
    assert lab.run(*LONG).code == 0
    uninterrupted = lab.run_of("Tiny-ce-s1")
    assert_equal_runs(lab.cwd / "stopped" / uninterrupted.name, uninterrupted)


def test_a_signal_stops_the_whole_sweep(lab: Lab) -> None:
    running = lab.start(*TINY, "loss=ce", "-m", "seed=1,2", gate=2)
    running.reaches_step()
    running.signal(signal.SIGINT)
    running.passes()
    ended = running.end()
    assert ended.code == 1
    assert ended.traceless
    assert "stopped at epoch 1, step 2" in ended.err
    assert not list(lab.runs.glob("*-s2-*"))
