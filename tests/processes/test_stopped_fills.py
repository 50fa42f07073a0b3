"""`distill fill` killed, stopped by a signal, or by its budget: typed again it ends as if nothing had been."""

import signal
from pathlib import Path

import pytest
from process_lab import DATA, STEPS, Lab, Server, assert_equal_runs

TABLE = f"""
title: a table of tests
source: nobody
dataset: synthetic
recipe: demo
overrides: [{", ".join(DATA)}, recipe=demo, student._target_=tiny_student.Tiny, recipe.epochs=3,
  teacher.network._target_=tiny_student.Tiny, teacher.recipe.epochs=3]
columns:
  tiny: {{teacher: resnet8, student: resnet8}}
rows:
  ce: {{preset: ce, published: [50.0]}}
  kd: {{preset: kd, published: [60.0]}}
  ours: {{preset: zscore_kd, published: [62.0]}}
"""
FILL = ("fill", "table=tiny", "--config-dir", "own", "seeds=1", "teacher.source=live")
RUNS = 4
BEFORE = 2 * 3 * STEPS  # of the teacher and the baseline


def with_table(lab: Lab) -> Lab:
    """The lab with a table of one's own."""
    folder = lab.cwd / "own" / "table"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text(TABLE)
    return lab


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The runs of the table, filled without interruption."""
    lab = with_table(Lab(server, tmp_path_factory.mktemp("whole")))
    assert lab.run(*FILL).code == 0
    runs = sorted(lab.runs.iterdir())
    assert len(runs) == RUNS
    return runs


def assert_as_uninterrupted(lab: Lab, whole: list[Path]) -> None:
    """Type the command again: every run is that of the table filled in one go."""
    again = lab.run(*FILL)
    assert again.code == 0
    assert f"{RUNS} of {RUNS} runs finished" in again.out
    for run in whole:
        assert_equal_runs(lab.runs / run.name, run)


def test_a_killed_fill_goes_on_where_it_was(lab: Lab, whole: list[Path]) -> None:
    running = with_table(lab).start(
        *FILL, checkpoints="every step", gate=BEFORE + 2 * STEPS + 3
    )  # two methods, side by side
    assert running.reaches_step()
    running.kill()
    assert_as_uninterrupted(lab, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(lab: Lab, whole: list[Path], number: signal.Signals) -> None:
    running = with_table(lab).start(*FILL, "budget=9h", gate=STEPS + 2)
    assert running.reaches_step()
    running.signal(number)
    running.passes()
    ended = running.end()
    assert ended.code == 1
    assert ended.err == "stopped at epoch 2, step 2: type the command again to go on\n"
    assert "budget" not in ended.out
    assert_as_uninterrupted(lab, whole)


def test_a_fill_that_its_budget_of_seconds_stops_goes_on_as_if_uninterrupted(lab: Lab, whole: list[Path]) -> None:
    ended = with_table(lab).run(*FILL, "budget=4s", pace=0.2)
    assert ended.traceless
    assert ended.code in (0, 2)  # 2: this machine took so long to begin that no epoch fitted in
    assert len(list(lab.runs.glob("*/result.json"))) < RUNS
    if ended.code == 0:
        assert "the budget is used: " in ended.out
    assert_as_uninterrupted(lab, whole)
