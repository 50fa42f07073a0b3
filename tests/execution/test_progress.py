"""The lines that a sweep prints while it trains."""

import io
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from distill.config.sweep import prepare
from distill.execution import progress
from distill.execution.jobs import run_cohorts, titles
from distill.execution.progress import WIDTH, TrainingProgress

TINY = ("dataset=synthetic", "dataset.image_size=16", "dataset.train_size=32", "dataset.test_size=16")
TINY += ("student=resnet8", "teacher=resnet8", "recipe=demo", "recipe.epochs=2", "teacher.recipe.epochs=1")


def member(name: str, terms: int = 2, epochs: int = 240) -> SimpleNamespace:
    means = {f"a_long_term_{number}": 1.0 for number in range(terms)} | {"loss": 2.0, "accuracy": 50.0}
    return SimpleNamespace(
        name=name,
        epoch=1,
        step=0,
        split="holdout",
        last_train=means,
        recipe=SimpleNamespace(epochs=epochs),
        stream=SimpleNamespace(steps=10, count=50_000),
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_equal_members_of_a_cohort_show_equal_speed_and_the_time_left_for_all(clock: Callable[[float], None]) -> None:
    stream = io.StringIO()
    names = {"run-a": "1/3 aaaaaa kd", "run-b": "2/3 bbbbbb dkd", "run-c": "3/3 cccccc ce"}
    watch = TrainingProgress(stream, titles=names, epochs=6)
    first, second = member("run-a", 0, epochs=2), member("run-b", 0, epochs=2)
    for each in (first, second):
        watch.step(each)
        clock(10)
    for each in (first, second):
        each.step = 10
        watch.step(each)
    for each in (first, second):
        each.epoch, each.step = 2, 0
        watch.epoch(each, SimpleNamespace(accuracy=40.0))
        clock(5)
    one, two = stream.getvalue().splitlines()
    assert one.startswith("1/3 aaaaaa kd  epoch 1/2  ")
    assert two.startswith("2/3 bbbbbb dkd  epoch 1/2  ")
    speed = [re.findall(r"([\d,]+) images/s  (\d+ s) left", line) for line in (one, two)]
    assert speed == [[("2,500", "20 s")]] * 2
    assert one.endswith("20 s left  all 40 s")  # two of six epochs took 20 s: the second has ended too
    assert two.endswith("20 s left  all 50 s")  # 25 s


@pytest.mark.parametrize("terms", [0, 3, 9])
def test_no_line_is_wider_than_100_columns(clock: Callable[[float], None], terms: int) -> None:
    stream = io.StringIO()
    watch = TrainingProgress(stream)
    each = member("resnet32x4-zscore_kd-s1-9f1acb6d0d20", terms)
    watch.step(each)
    clock(3000)
    each.epoch = 13
    watch.epoch(each, SimpleNamespace(accuracy=44.2))
    (line,) = stream.getvalue().splitlines()
    assert len(line) <= WIDTH == 100
    assert "epoch 12/240" in line
    assert "holdout 44.20 %" in line
    assert "  loss 2.0000  " in line


@pytest.mark.parametrize("length", [30, 60, 300])
def test_a_long_title_is_shortened_in_its_middle_and_the_loss_stays(
    clock: Callable[[float], None], length: int
) -> None:
    stream = io.StringIO()
    title = f"3/12 9f1acb {'x' * length} temperature=4"
    watch = TrainingProgress(stream, titles={"run": title}, epochs=1000)
    each = member("run", 2)
    for each.step in (1, 5):
        watch.step(each)
        clock(30000)
    each.epoch, each.step = 101, 0
    watch.epoch(each, SimpleNamespace(accuracy=44.2))
    (line,) = stream.getvalue().splitlines()
    assert len(line) <= WIDTH
    assert "  epoch 100/240  loss 2.0000  " in line
    assert "  holdout 44.20 %  " in line
    assert re.search(r" left  all \d+ d \d\d h$", line)
    assert re.match(r"3/12 9f1a.*\.\.\..*ature=4  epoch", line)


def test_a_sweep_names_its_jobs_and_says_once_where_the_teacher_is(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "loss=kd", "loss.temperature=1,4"]
    _, sweep = prepare(words, multirun=True, config_dir=None, faults=[], may_download=False)
    assert [title.split(" ", 2)[::2] for title in titles(sweep.jobs).values()] == [
        ["1/2", "kd temperature=1"],
        ["2/2", "kd"],
    ]
    run_cohorts(sweep.jobs, size=1, retry=False)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("teacher ") and "%" in line for line in lines) == 1
    assert len(set(lines)) == len(lines)
    assert any(line.startswith(f"2/2 {sweep.jobs[1].run_id[:6]} kd  epoch 1/2  ") for line in lines)
