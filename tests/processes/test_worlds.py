"""One run trained by two processes: the same weights as by one, one writer, and nobody who waits for ever."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
from process_lab import DISTILLED, TINY, Ended, Lab, Running, assert_equal_runs, environment

UNEVEN = (*TINY, "dataset.train_size=59", "recipe.epochs=5", "loss=ce", "seed=1")  # 20 steps; 11 images in the last
RUN = "Tiny-ce-s1"


def ends(running: list[Running]) -> list[Ended]:
    """Wait for all."""
    return [process.end() for process in running]


def trained(lab: Lab, *words: str) -> Path:
    """The run of a command, by two processes without interruption."""
    ended = ends(lab.world(*words))
    assert [each.code for each in ended] == [0, 0], ended
    assert ended[1].out + ended[1].err == ""  # the second one is silent
    return lab.run_of(RUN)


def distance(ours: Path, theirs: Path) -> float:
    """The largest difference of two runs' weights."""
    weights = [safetensors.torch.load_file(run / "student.safetensors") for run in (ours, theirs)]
    assert weights[0].keys() == weights[1].keys()
    return max(float((weights[0][name].double() - tensor.double()).abs().max()) for name, tensor in weights[1].items())


def facts(run: Path, name: str) -> list[dict[str, object]]:
    """The lines of a log."""
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def test_twenty_steps_of_two_processes_give_the_weights_of_one_and_one_record(lab: Lab) -> None:
    alone = lab.run(*UNEVEN, "runs_dir=alone")
    assert alone.code == 0
    run = trained(lab, *UNEVEN)
    single = lab.cwd / "alone" / run.name
    assert distance(run, single) < 1e-4
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in single.iterdir())
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    assert (provenance["step"]["processes"], provenance["sessions"]) == (2, [])
    for ours, theirs in zip(facts(run, "metrics.jsonl"), facts(single, "metrics.jsonl"), strict=True):
        assert ours["train"] == pytest.approx(theirs["train"], rel=1e-4)
        assert ours["gradient_norms"] == pytest.approx(theirs["gradient_norms"], rel=1e-3)
        assert ours["test"]["count"] == theirs["test"]["count"] == 40  # type: ignore[index]


def test_a_checkpoint_goes_on_with_one_process_and_with_two_again(lab: Lab) -> None:
    alone = lab.run(*UNEVEN, "runs_dir=alone")
    two = lab.world(*UNEVEN, gate=6)
    for process in two:
        process.reaches_step()
    two[1].signal(signal.SIGTERM)  # one is enough: all agree to stop
    for process in two:
        process.passes()
    stopped = ends(two)
    assert [each.code for each in stopped] == [1, 1]
    assert stopped[0].err == "stopped at epoch 2, step 2: type the command again to go on\n"
    one = lab.start(*UNEVEN, gate=7)
    one.reaches_step()
    one.signal(signal.SIGTERM)
    one.passes()
    assert "processes was 2, is 1" in one.end().out
    last = ends(lab.world(*UNEVEN))
    assert "processes was 1, is 2" in last[0].out
    assert "resumes at epoch 4, step 1" in last[0].out
    assert [alone.code, *(each.code for each in last)] == [0, 0, 0]
    assert distance(lab.run_of(RUN), lab.cwd / "alone" / lab.run_of(RUN).name) < 1e-4


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_process_is_killed_the_other_ends_and_the_run_can_be_resumed(lab: Lab, victim: int) -> None:
    running = lab.world(*UNEVEN, checkpoints="every step", gate=7)
    for process in running:
        process.reaches_step()
    running[victim].kill()
    running[1 - victim].passes()
    begun = time.monotonic()
    ended = running[1 - victim].end()
    assert time.monotonic() - begun < 30
    assert ended.code == 1
    assert "another process of this run has ended" in ended.err or victim == 0
    assert not (lab.run_of(RUN) / "failed.json").exists()
    resumed = ends(lab.world(*UNEVEN))
    assert "resumes at epoch 2, step" in resumed[0].out
    run = lab.run_of(RUN)
    uninterrupted = ends(lab.world(*UNEVEN, "runs_dir=uninterrupted"))
    assert [each.code for each in (*resumed, *uninterrupted)] == [0] * 4
    assert_equal_runs(run, lab.cwd / "uninterrupted" / run.name)


def test_failures_reach_all_processes(lab: Lab) -> None:
    diverged = ends(lab.world(*UNEVEN, "recipe.optimizer.lr=1e30", "runs_dir=diverged"))
    assert [each.code for each in diverged] == [1, 1]
    assert "is not finite at epoch 1" in diverged[0].err
    assert len([*(lab.cwd / "diverged").glob("*/failed.json")]) == 1
    full = {"limit": {"save": 2, "bytes": 3000}}
    stored = ends(lab.world(*UNEVEN, "runs_dir=stored", each=(full, {}), checkpoints="every step"))
    assert [each.code for each in stored] == [1, 1]
    assert not [*(lab.cwd / "stored").glob("*/failed.json")]
    short = ends(lab.world(*UNEVEN, "runs_dir=short", each=({}, {"memory": 3})))
    assert [each.code for each in short] == [1, 1]
    assert short[1].err == "process 1 of 2 ran out of memory on cpu: set recipe.batch_size lower, or use more devices\n"
    assert not [*(lab.cwd / "short").glob("*/failed.json")]


def test_local_batch_norm_makes_the_number_of_processes_part_of_the_run(lab: Lab) -> None:
    words = (*UNEVEN, "recipe.epochs=1", "recipe.batch_norm=local")
    ended = [lab.run(*words), *ends(lab.world(*words)), *ends(lab.world(*words, each=({}, {}, {})))]
    assert [each.code for each in ended] == [0] * 6
    configs = [path.read_text(encoding="utf-8") for path in lab.runs.glob("*/config.yaml")]
    assert sorted(each.partition("processes: ")[2][:1] for each in configs) == ["1", "2", "3"]


def test_a_sweep_trains_its_runs_one_after_the_other_and_the_teacher_first(lab: Lab) -> None:
    words = (*DISTILLED, "teacher.source=table", "dataset.pad=1", "-m", "seed=1,2")
    ended = ends(lab.world(*words))
    assert [each.code for each in ended] == [0, 0], ended
    assert ended[0].out.count("will be trained first") == 1
    assert "2 of 2 runs finished" in ended[0].out
    results = [json.loads(path.read_text(encoding="utf-8")) for path in lab.runs.glob("*/result.json")]
    sources = [result["teacher"]["source"] for result in results if result["teacher"]]
    assert (len(results), sources) == (3, ["table", "table"])  # built by the first process, read by both
    again = ends(lab.world(*words))
    assert [each.code for each in again] == [0, 0]
    assert again[0].out.count("was finished before") == 2
    assert "  epoch 1/" not in again[0].out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*UNEVEN, "-m", "hydra/launcher=cohort"), "several processes train the runs of a sweep one after the other"),
        ((*UNEVEN, "engine.compile=true"), "engine.compile=true cannot be used by several processes yet"),
        (("fill", "table=cifar100_small"), "distill fill runs in one process"),
    ],
    ids=["cohort", "compiled", "fill"],
)
def test_what_several_processes_cannot_do_is_refused_once(lab: Lab, words: tuple[str, ...], sentence: str) -> None:
    ended = ends(lab.world(*words))
    assert [each.code for each in ended] == [2, 2]
    assert sentence in ended[0].err
    assert ended[1].err == ""


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 1])
def test_torchrun_restarts_the_processes_of_a_killed_one(lab: Lab, restarts: int) -> None:
    words = [*UNEVEN, "recipe.epochs=20", "engine.checkpoint_seconds=0"]
    options = ["--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}", "-m", "distill"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, *words]
    variables = {**environment(), "TINY_STUDENT_SECONDS": "0.1"}
    with subprocess.Popen(command, cwd=lab.cwd, env=variables, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while "epoch 2/20" not in running.stdout.readline():
            assert running.poll() is None
        found = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[-1]), signal.SIGKILL)
        begun = time.monotonic()
        running.stdout.read()
    assert not [*lab.runs.glob("*/failed.json")]
    if restarts:
        assert running.returncode == 0
    else:
        assert running.returncode != 0
        assert time.monotonic() - begun < 30
        assert [each.code for each in ends(lab.world(*words))] == [0, 0]
    run = lab.run_of(RUN)
    assert [each.code for each in ends(lab.world(*words, "runs_dir=uninterrupted"))] == [0, 0]
    assert_equal_runs(run, lab.cwd / "uninterrupted" / run.name)
