"""Sweeps through launchers that others wrote: processes of their own, the same runs, checks and exit codes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

from distill.cli import main
from distill.config.plan import RunPlan
from distill.config.sweep import job_of
from distill.config.teachers import PlannedTeacher
from distill.execution import jobs, stopping
from distill.execution.jobs import on_own_device, outcomes_on_disk, run_job
from distill.execution.progress import TrainingProgress

LAUNCHERS = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}
TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "student._target_=linear_student.Linear",
    "teacher=resnet8",
    "recipe.epochs=1",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
    "engine.device=cpu",
    "engine.threads=1",
)
STUDENT = """
import os, signal
from torch import nn

class Linear(nn.Module):
    def __init__(self, *, num_classes, deadly=False):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, num_classes))
        self.deadly = deadly

    def forward(self, images):
        if self.deadly and self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(images)
"""


def planned(device: str = "auto", **parts: Any) -> RunPlan:
    """A plan with an engine and nothing else."""
    facts = dict.fromkeys(("names", "identity", "runs_dir", "dataset", "recipe", "method", "teacher"))
    config = {"engine": {"device": device}}
    return RunPlan(config=config, run_id="", device=torch.device("cpu"), **{**facts, **parts})


def job(launcher: str, number: int, *, device: str = "auto") -> str:
    """The device that a job is given, and the teacher that it may train first."""
    hydra = OmegaConf.create({"runtime": {"choices": {"hydra/launcher": launcher}}, "job": {"num": number}})
    plan = on_own_device(planned(device, teacher=PlannedTeacher(planned(device))), hydra)
    assert isinstance(plan.teacher.plan, RunPlan)
    assert plan.config == plan.teacher.plan.config
    assert plan.device == plan.teacher.plan.device
    return str(plan.config["engine"]["device"])


def test_jobs_in_processes_of_their_own_take_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [job("joblib", number) for number in range(4)] == ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]
    assert job("submitit_local", 5) == "cuda:2"
    assert job("joblib", 1, device="cuda:0") == "cuda:0"  # as the user says
    assert job("joblib", 1, device="cpu") == "cpu"
    for launcher in ("basic", "cohort"):
        assert job(launcher, 1) == "auto"  # one process: its jobs share a device


def test_a_job_takes_the_one_gpu_of_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan was made where the command was typed, which may have none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert job("submitit_slurm", 3) == "cuda:0"


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_gpu_that_works_it_stays_auto(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert job("joblib", 1) == "auto"


def test_a_launcher_runs_the_checked_plan_on_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher has composed again is neither checked again nor used."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    run, watches = [], []

    def run_plans(plans: list[RunPlan], *, watch: TrainingProgress, **_: Any) -> list[None]:
        run.extend(plans)
        watches.append(watch)
        return [None]

    monkeypatch.setattr(jobs, "preflight", lambda *_: pytest.fail("checked again"))
    monkeypatch.setattr(jobs, "run_plans", run_plans)
    overrides = {"task": ["++seed=1", "loss=kd"]}
    choices = {"runtime": {"choices": {"hydra/launcher": "joblib"}}, "job": {"num": 3}, "overrides": overrides}
    monkeypatch.setattr(jobs.HydraConfig, "get", lambda: OmegaConf.create(choices))
    plans = {
        job_of([f"loss={loss}", "++seed=1", "hydra/launcher=joblib"]): SimpleNamespace(
            **vars(planned()) | {"names": {"loss": loss}, "run_id": loss},
            seed=1,
            directory=Path(loss),
            moved=lambda device, loss=loss: replace(planned(), device=torch.device(device), run_id=loss),
        )
        for loss in ("ce", "kd")
    }
    run_job(OmegaConf.create({}), planned=plans, config_dir=None, retry=False, command=0)
    assert [(plan.run_id, str(plan.device)) for plan in run] == [("kd", "cuda:1")]
    assert watches[0]._titles == {"ce": "1/2 ce ce", "kd": "2/2 kd kd"}


WORKER = """
import os, sys, time
from distill.execution.stopping import end_with, stop_signals
command = os.fork()
if command == 0:
    command = os.getpid()
    if os.fork() == 0:
        with stop_signals() as stop_requested:
            end_with(command)
            print("at work", flush=True)
            while not stop_requested():
                time.sleep(0.05)
        print("saved", flush=True)
        os._exit(0)
    time.sleep(60)
print(command, flush=True)
os.waitpid(command, 0)
"""


def test_a_worker_saves_and_ends_when_the_command_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = {process.stdout.readline().strip() for _ in range(2)}
    (command,) = first - {"at work"}
    os.kill(int(command), signal.SIGKILL)
    rest, _ = process.communicate(timeout=60)  # the worker holds the pipe as long as it lives
    assert rest == "saved\n"


def test_a_process_that_another_one_started_is_not_watched() -> None:
    before = threading.active_count()
    stopping.end_with(os.getpid())
    assert threading.active_count() == before


def test_after_a_launcher_gave_up_the_folders_say_what_finished(tmp_path: Path) -> None:
    class Plan(SimpleNamespace):
        is_finished = RunPlan.is_finished

    plans = [Plan(run_id=name, directory=tmp_path / name) for name in ("a", "b", "a")]
    plans[1].directory.mkdir()
    (plans[1].directory / "result.json").write_text("{}")
    found = outcomes_on_disk(plans, "did not finish")
    assert [(outcome.name, outcome.status) for outcome in found] == [("a", "failed"), ("b", "finished")]
    assert found[0].text == f"{tmp_path / 'a'}: did not finish"


def test_a_launcher_that_lost_a_process_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What joblib and submitit raise is a RuntimeError, after some of the jobs have finished."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "linear_student.py").write_text(STUDENT)
    multirun = Hydra.multirun

    def dying(self, name, task, overrides, **options):
        multirun(self, name, task, [text.replace("seed=1,2", "seed=1") for text in overrides], **options)
        raise RuntimeError("A worker process was terminated.\nAnd much more.")

    monkeypatch.setattr(Hydra, "multirun", dying)
    assert main(["train", "-m", *TINY, "loss=ce", "seed=1,2", "hydra.sweeper.max_batch_size=2"]) == 1
    told = capsys.readouterr()
    assert told.err == "the launcher failed: RuntimeError: A worker process was terminated.\n"
    assert "1 of 2 runs finished" in told.out
    assert "did not finish; type the command again to go on" in told.out


class Sweeps:
    """`distill train -m` through one launcher, as a process in a folder of its own."""

    def __init__(self, folder: Path, launcher: str) -> None:
        self._folder, self._launcher = folder, launcher
        (folder / "linear_student.py").write_text(STUDENT)

    def __call__(self, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "distill", "train", "-m", *TINY, f"hydra/launcher={self._launcher}", *words]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=240, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    def accuracies(self, store: str) -> dict[str, float]:
        found = sorted((self._folder / store).glob("*/result.json"))
        return {path.parent.name: json.loads(path.read_text())["last"]["loss"] for path in found}


@pytest.fixture(params=LAUNCHERS)
def sweep(request: pytest.FixtureRequest, tmp_path: Path) -> Sweeps:
    plugin = LAUNCHERS[request.param]
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"needs the launcher {request.param}: pip install 'distill[launchers]'")
    return Sweeps(tmp_path, request.param)


@pytest.mark.slow
def test_jobs_in_several_processes_are_the_jobs_one_by_one(sweep: Sweeps) -> None:
    code, out, _ = sweep("loss=kd,ce", "seed=1,2", "runs_dir=many")
    assert code == 0
    assert "4 of 4 runs finished" in out
    alone = Sweeps(sweep._folder, "basic")
    assert alone("loss=kd,ce", "seed=1,2", "runs_dir=one")[0] == 0
    assert len(sweep.accuracies("many")) == 5  # the teacher was trained once
    assert sweep.accuracies("many") == sweep.accuracies("one")
    code, out, _ = sweep("loss=kd,ce", "seed=1,2", "runs_dir=many")
    assert code == 0
    assert out.count("was finished before") == 4


@pytest.mark.slow
def test_faults_and_failures_end_as_with_any_launcher(sweep: Sweeps) -> None:
    code, _, err = sweep("loss=ce", "seed=1,x")
    assert (code, err) == (2, "seed must be an integer, got 'x' (in 1 of 2 jobs)\n")
    code, out, _ = sweep("loss=ce", "recipe.optimizer.lr=0.1,1e30")
    assert code == 1
    assert "1 of 2 runs finished" in out
    assert "ce is not finite" in out
    code, out, err = sweep("loss=ce", "seed=7", "+student.deadly=true,false")
    assert code == 1
    assert err.splitlines()[-1].startswith("the launcher failed: ")
    assert "did not finish; type the command again to go on" in out


@pytest.mark.slow
@pytest.mark.parametrize("sweep", ["joblib"], indirect=True)
def test_the_workers_of_a_killed_command_save_and_end(sweep: Sweeps) -> None:
    words = [*TINY, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "loss=ce", "seed=1,2", "recipe.epochs=100000"]
    process = subprocess.Popen([sys.executable, "-m", "distill", "train", "-m", *words], cwd=sweep._folder)
    try:
        wait_until(lambda: len(list(sweep._folder.glob("runs/*/metrics.jsonl"))) == 2, seconds=240)
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), seconds=stopping.GRACE + 60)
    assert len(list(sweep._folder.glob("runs/*/last.safetensors"))) == 2


def children(pid: int) -> list[int]:
    """The processes that this one has started and that still run."""
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def wait_until(true: Callable[[], bool], *, seconds: float) -> None:
    """Return as soon as `true()`; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
