"""A sweep that was killed is taken up by typing it again."""

from pathlib import Path

from process_lab import STEPS, TINY, Lab, assert_equal_runs, stamps


def test_a_killed_sweep_skips_what_is_finished_and_resumes_the_rest(lab: Lab, reference: Path) -> None:
    words = (*TINY, "loss=ce", "-m", "seed=5,1,2")
    running = lab.start(*words, checkpoints="every step", gate=3 * STEPS + STEPS + 1)
    running.reaches_step()
    running.kill()
    finished = lab.run_of("Tiny-ce-s5")
    before = stamps(finished)

    again = lab.run(*words)

    assert again.code == 0
    assert f"{finished.name} was finished before" in again.out
    assert f"{reference.name} resumes at epoch 2, step 1" in again.out
    assert "3 of 3 runs finished" in again.out
    assert stamps(finished) == before
    assert_equal_runs(lab.runs / reference.name, reference)
    assert (lab.run_of("Tiny-ce-s2") / "result.json").is_file()


def test_runs_that_were_killed_side_by_side_end_like_one_that_ran_alone(lab: Lab, reference: Path) -> None:
    words = (*TINY, "loss=ce", "-m", "seed=2,1", "hydra/launcher=cohort")
    running = lab.start(*words, checkpoints="every step", gate=2 * STEPS + 3)  # seed 2 is a step ahead
    running.reaches_step()
    running.kill()

    again = lab.run(*words)

    assert again.code == 0
    assert f"{reference.name} resumes at epoch 2, step 1" in again.out
    assert "resumes at epoch 2, step 2" in again.out
    assert_equal_runs(lab.runs / reference.name, reference)
