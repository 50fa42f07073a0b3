"""What `distill fill` begins next, and when its budget makes it stop, on clocks of the tests' own."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from silent import Silent

from distill.cli.arguments import parse
from distill.cli.fill import VERB, read_request
from distill.config.plan import RunPlan
from distill.execution.rounds import STUDENT, TEACHER, Job, groups, measured_times, next_cohort, ready
from distill.execution.stopping import CHECKPOINT_SECONDS, EXIT_SECONDS, Deadline
from distill.runs.config_file import write_config
from distill.runs.provenance import device_name
from distill.runs.store import scan

EPOCH = {"epoch": 1, "accuracy": 50.0}
RESULT = {"weights_sha256": "ab", "classes": 4, "seconds": 1.0, "split": "test", "last": EPOCH, "best": EPOCH}


class Plan(SimpleNamespace):
    """The attributes of a plan that the order reads."""

    is_finished = RunPlan.is_finished


def plan(
    folder: Path, run_id: str, *, teacher: Any = None, seed: int = 1, epochs: int = 10, device: str = "cpu"
) -> Any:
    """A plan whose folder is below `folder`."""
    return Plan(
        run_id=run_id,
        directory=folder / run_id,
        teacher=None if teacher is None else SimpleNamespace(plan=None),
        first_stage=None,
        seed=seed,
        config={"engine": {}},
        identity={"data": {"train": "a"}, "teacher": teacher},
        precision="fp32",
        recipe=SimpleNamespace(batch_size=64, epochs=epochs),
        device=SimpleNamespace(type=device),
    )


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two teachers, and of each two students and of one a baseline, in two rounds."""
    found = [Job(plan(tmp_path, name), 0, TEACHER, place, frozenset()) for place, name in enumerate("TU")]
    for number in (0, 1):
        for place, teacher in enumerate("TU"):
            for method in ("ce", "kd", "zs"):
                name = f"{method}{teacher}{number}"
                taught = None if method == "ce" else teacher
                made = plan(tmp_path, name, teacher=taught, seed=number)
                found.append(Job(made, number, STUDENT, place, frozenset(taught or "")))
    return sorted(found, key=lambda job: job.rank)


def finish(job: Job, name: str = "result.json") -> None:
    """Let a run be finished, or half-trained."""
    job.plan.directory.mkdir(exist_ok=True)
    (job.plan.directory / name).write_text(json.dumps(RESULT))
    parts: dict[str, object] = {"student": {}, "dataset": {}}
    identity = {"precision": job.plan.precision}
    write_config(job.plan.directory, {"run_id": job.plan.run_id, "names": {}, "config": parts, "identity": identity})


def test_a_network_that_was_only_imported_has_no_time(tmp_path: Path) -> None:
    """Its record has the epoch of its file, and took no second here."""
    add_run = runpy.run_path(str(Path(__file__).parents[1] / "tables" / "store_files.py"))["add_run"]
    add_run(tmp_path, loss="ce", seconds=0.0)
    (record,) = scan(tmp_path)
    (record.path / "provenance.json").write_text(json.dumps({"device": device_name(torch.device("cpu")), "threads": 1}))
    known = {"names": record.names, "identity": record.identity, "config": record.config | {"engine": {"threads": 1}}}
    wanted = SimpleNamespace(run_id="wanted", runs_dir=tmp_path, device=torch.device("cpu"), **known)
    job = Job(wanted, 0, STUDENT, 0, frozenset())
    assert measured_times([job]) == {}
    result = json.loads((record.path / "result.json").read_text())
    (record.path / "result.json").write_text(json.dumps(result | {"seconds": 20.0}))
    assert measured_times([job]).keys() == {"wanted"}


def names(found: list[Job]) -> str:
    """Their ids."""
    return " ".join(job.plan.run_id for job in found)


def walk(jobs: list[Job]) -> list[str]:
    """The cohorts until nothing is left, each one finished."""
    found = []
    while cohort := next_cohort(ready(jobs, frozenset())):
        found.append(names(cohort))
        for job in cohort:
            finish(job)
    return found


def test_runs_of_one_teacher_and_one_round_go_together(jobs: list[Job]) -> None:
    first = ["T", "U", "ceT0", "kdT0 zsT0", "ceU0", "kdU0 zsU0"]
    assert walk(jobs) == [*first, "ceT1", "kdT1 zsT1", "ceU1", "kdU1 zsU1"]


def test_on_a_gpu_a_round_goes_together(jobs: list[Job]) -> None:
    for job in jobs:
        job.plan.device.type = "cuda"
    assert walk(jobs)[:2] == ["T U", "ceT0 kdT0 zsT0 ceU0 kdU0 zsU0"]


def test_students_wait_for_their_teacher_and_nobody_for_others(jobs: list[Job]) -> None:
    ready_now = names(ready(jobs, frozenset("T")))
    assert ready_now == "U ceT0 ceU0 ceT1 ceU1"
    finish(jobs[1])
    assert names(ready(jobs, frozenset("T"))) == "ceT0 ceU0 kdU0 zsU0 ceT1 ceU1 kdU1 zsU1"


def test_half_trained_runs_come_first(jobs: list[Job]) -> None:
    finish(jobs[0])
    by_id = {job.plan.run_id: job for job in jobs}
    for name in ("zsT1", "kdT1"):
        finish(by_id[name], "last.safetensors")
    assert names(next_cohort(ready(jobs, frozenset()))) == "kdT1 zsT1"


def test_a_cohort_has_a_size(tmp_path: Path) -> None:
    many = [Job(plan(tmp_path, f"{n:02}", device="cuda"), 0, STUDENT, 0, frozenset()) for n in range(20)]
    assert [len(group) for group in groups(many)] == [8, 8, 4]
    assert [len(group) for group in groups(many, size=9)] == [9, 9, 2]
    apart = [Job(plan(tmp_path, str(n), device="cuda", epochs=n), 0, STUDENT, 0, frozenset()) for n in range(3)]
    assert [len(group) for group in groups(apart)] == [1, 1, 1]


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


STEPS, TRAINED, EVALUATED = 4, 40, 20


def member(name: str) -> Any:
    """The attributes of a member that a deadline reads: a run of four steps an epoch, without parameters."""
    nothing = SimpleNamespace(parameters=list)
    dataset = SimpleNamespace(train_labels=[0] * TRAINED, evaluation_labels=[0] * EVALUATED)
    stream = SimpleNamespace(steps=STEPS, dataset=dataset, count=TRAINED)
    evaluation = SimpleNamespace(count=EVALUATED)
    return SimpleNamespace(name=name, student=nothing, objective=nothing, stream=stream, evaluation=evaluation, step=0)


def run_until_stopped(
    deadline: Deadline, clock: Clock, *, members: int, step: float, evaluation: float
) -> tuple[int, int]:
    """Epoch and step at which the budget stops `members` that take `step` and `evaluation` seconds each."""
    all_members = [member(str(n)) for n in range(members)]
    for epoch in range(1, 1000):
        for number in range(1, STEPS + 1):
            for each in all_members:
                clock.now += step
                each.step = number
                deadline.step(each)
            if deadline():
                return epoch, number
        for each in all_members:
            clock.now += evaluation
            deadline.epoch(each, None)  # type: ignore[arg-type]  # not read
    raise AssertionError("it never stops")


@pytest.mark.parametrize(
    ("members", "step", "evaluation"), [(1, 1.0, 3.0), (1, 0.5, 0.0), (3, 1.0, 9.0), (8, 0.1, 2.0)]
)
@pytest.mark.parametrize("seconds", [60.0, 61.5, 64.0, 67.3, 71.9])
def test_everything_is_saved_before_the_end_and_little_is_given_away(
    members: int, step: float, evaluation: float, seconds: float
) -> None:
    clock = Clock()
    deadline = Deadline(seconds, Silent(), clock=clock)
    _, number = run_until_stopped(deadline, clock, members=members, step=step, evaluation=evaluation)
    assert deadline.reached
    saved = clock.now + members * CHECKPOINT_SECONDS
    assert saved <= 100.0 + seconds
    then = step * members + (evaluation * members if number == STEPS else 0.0)
    # one more of what comes would not have fitted, or nearly so
    assert saved + then + EXIT_SECONDS > 100.0 + seconds - 1e-6


def test_the_first_evaluation_is_foreseen() -> None:
    clock = Clock()
    deadline = Deadline(4.0 + 1.9 + EXIT_SECONDS + CHECKPOINT_SECONDS, Silent(), clock=clock)
    # four steps fit, and half as many images evaluated may take two seconds
    assert run_until_stopped(deadline, clock, members=1, step=1.0, evaluation=1.9) == (1, 4)


def test_what_went_before_the_first_step_is_forgotten() -> None:
    clock = Clock()
    deadline = Deadline(1000.0, Silent(), clock=clock)
    run_until_stopped(Deadline(50.0, Silent(), clock=clock), clock, members=1, step=1.0, evaluation=0.0)
    deadline.step(member("a"))
    assert not deadline()
    clock.now += 500.0  # a teacher was measured
    assert deadline()
    for _ in range(6):
        clock.now += 1.0
        deadline()
    assert not deadline()
    deadline.new_cohort()
    clock.now = 100.0 + 990.0
    assert not deadline()


def test_a_budget_counts_from_where_the_command_began() -> None:
    assert Deadline(60.0, Silent(), begun=90.0, clock=Clock()).left == 50.0
    assert Deadline(None, Silent(), clock=Clock()).left == float("inf")


def test_without_a_budget_nothing_stops() -> None:
    clock = Clock()
    deadline = Deadline(None, Silent(), clock=clock)
    clock.now = 1e12
    assert not deadline()


@pytest.mark.parametrize(
    ("word", "seconds"), [("90s", 90), ("9m", 540), ("2h", 7200), ("1h30m", 5400), ("1.5m", 90), ("0.5h10s", 1810)]
)
def test_times_are_read(word: str, seconds: float) -> None:
    found = read_request(parse(["table=cifar100_small", f"budget={word}"], VERB))
    assert found is not None
    assert found["budget"] == seconds


def test_runs_side_by_side() -> None:
    found = [read_request(parse(["table=cifar100_small", *words], VERB)) for words in ([], ["hydra.launcher.size=3"])]
    assert [each and each["size"] for each in found] == [8, 3]
    line = parse(["table=cifar100_small", "hydra.launcher.size=0"], VERB)
    read_request(line)
    (fault,) = line.faults
    assert "hydra.launcher.size=0 must be one whole number from 1 on" in str(fault)


@pytest.mark.parametrize(("word", "seeds"), [("3", (1, 2, 3)), ("1,2,5", (1, 2, 5)), ("7,", (7,)), ("2,2", (2,))])
def test_seeds_are_how_many_or_which(word: str, seeds: tuple[int, ...]) -> None:
    found = read_request(parse(["table=cifar100_small", f"seeds={word}"], VERB))
    assert found is not None
    assert found["seeds"] == seeds
