"""Commands that are refused, only show something, or find everything done."""

import shutil
from pathlib import Path

import pytest
from process_lab import BASELINE, DATA, TINY, Lab, stamps


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["loss.temprature=3", "seed=many", "recipe.epoch=5"], ["temprature", "seed must be", "recipe.epoch"]),
        (["teacher=none", "loss=kd"], ["needs a teacher"]),
        (["-m", "loss.temperature=2,-1", "seed=1,2"], ["temperature must be > 0, got -1"]),
        (["recipe.epochs=0", "dataset.holdout=60"], ["epochs must be >= 1", "holdout"]),
        (["teacher.run=0123456789ab"], ["no run matches"]),
        (["--retyr"], ["unknown option --retyr"]),
    ],
)
def test_a_refused_command_leaves_no_file_and_prints_no_trace(lab: Lab, words: list[str], sentences: list[str]) -> None:
    ended = lab.run("train", *DATA, *words)
    assert ended.code == 2
    assert ended.traceless
    assert ended.out == ""
    assert len(ended.err.splitlines()) == len(sentences)
    assert all(any(sentence in line for line in ended.err.splitlines()) for sentence in sentences)
    assert not list(lab.cwd.iterdir())


def test_cfg_job_writes_nothing_and_says_whether_the_run_is_finished(lab: Lab, reference: Path) -> None:
    run_id = reference.name.rpartition("-")[2]
    shown = lab.run(*BASELINE, "--cfg", "job")
    assert shown.code == 0
    assert f"# run id: {run_id}\n# status: not started (runs/{reference.name})\n" in shown.out
    assert not list(lab.cwd.iterdir())

    shutil.copytree(reference, lab.runs / reference.name)
    before = stamps(lab.cwd)
    shown = lab.run(*BASELINE, "--cfg", "job")
    assert f"# status: finished (runs/{reference.name})\n" in shown.out
    assert stamps(lab.cwd) == before


def test_a_finished_run_with_a_damaged_result_is_a_sentence(lab: Lab, reference: Path) -> None:
    shutil.copytree(reference, lab.runs / reference.name)
    (lab.runs / reference.name / "result.json").write_text("{}", encoding="utf-8")
    ended = lab.run(*BASELINE)
    assert ended.code == 1
    assert ended.traceless
    assert "result.json is damaged: its key 'weights_sha256' is missing" in ended.err
    assert "delete the folder to train the run again" in ended.err


def test_a_finished_run_typed_again_prints_its_result_and_trains_nothing(lab: Lab, reference: Path) -> None:
    shutil.copytree(reference, lab.runs / reference.name)
    before = stamps(lab.cwd)
    ended = lab.run(*TINY, "loss=ce", "seed=1")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith(f"{reference.name} was finished before: test ")
    assert len(ended.out.splitlines()) == 1
    assert stamps(lab.cwd) == before
