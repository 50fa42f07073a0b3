"""Runs whose loss is not finite: they fail alone, are reported, and tried again only when asked."""

import json
from pathlib import Path

import torch
from process_lab import DISTILLED, TINY, Lab, stamps
from safetensors.torch import load_file

SWEEP = (*TINY, "loss=ce", "seed=1", "-m", "recipe.optimizer.lr=1e30,0.05")


def test_a_non_finite_loss_fails_that_run_alone_and_is_not_tried_again_unless_asked(lab: Lab) -> None:
    ended = lab.run(*SWEEP, checkpoints="every step")
    assert ended.code == 1
    assert ended.traceless
    (path,) = lab.runs.glob("*/failed.json")
    failed = path.parent
    failure = json.loads(path.read_text(encoding="utf-8"))
    assert (failure["epoch"], failure["step"], failure["term"]) == (1, 1, "ce")
    assert "1 of 2 runs finished" in ended.out
    sentence = "ce is not finite at epoch 1, step 1: lower the learning rate or the term's weight"
    assert f"failed: runs/{failed.name}: {sentence}" in ended.out

    kept = load_file(failed / "last.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in kept.values() if value.is_floating_point())
    assert not (failed / "student.safetensors").exists()

    before = {name: stamp for name, stamp in stamps(lab.runs).items() if not name.startswith(".hydra")}
    again = lab.run(*SWEEP)
    assert again.code == 1
    assert f"runs/{failed.name} failed before: {sentence} (add --retry to try it again)" in again.err
    assert "was finished before" in again.out
    after = {name: stamp for name, stamp in stamps(lab.runs).items() if not name.startswith(".hydra")}
    assert {name for name in after if after[name] != before.get(name)} <= {f"{failed.name}/lock"}

    retried = lab.run(*SWEEP, "--retry")
    assert retried.code == 1
    assert f"{failed.name} resumes at epoch 1, step 1" in retried.out
    assert json.loads((failed / "failed.json").read_text(encoding="utf-8"))["term"] == "ce"


def test_a_teacher_that_fails_fails_its_students_with_a_sentence(lab: Lab) -> None:
    ended = lab.run(*DISTILLED, "teacher.recipe.optimizer.lr=1e30", "-m", "seed=1,2")
    assert ended.code == 1
    assert ended.traceless
    teacher = lab.run_of("Tiny-ce-s0").name
    assert f"runs/{teacher}: ce is not finite at epoch 1, step " in ended.err
    assert "0 of 2 runs finished" in ended.out
    assert ended.out.count("\nfailed: ") == 2
    assert not list(lab.runs.glob("Tiny-kd-*/result.json"))
    assert (Path(lab.runs) / teacher / "failed.json").is_file()
