"""`hydra/launcher=cohort`: the same runs as one by one, to the byte, in fewer loops."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from silent import Silent

from distill.cli import main
from distill.config import sweep
from distill.data import UnreadableImage
from distill.execution import execute, jobs
from distill.training import ProcessLost, World
from distill.training.meters import NonFinite

TINY = (
    "dataset=synthetic",
    "dataset.image_size=8",
    "dataset.classes=4",
    "dataset.train_size=40",
    "dataset.test_size=20",
    "student=resnet8",
    "teacher=resnet8",
    "recipe.epochs=2",
    "recipe.batch_size=16",
    "teacher.recipe.epochs=1",
)


THREE = ("-m", "hydra/launcher=cohort", "loss=ce", "seed=1,2,3", "recipe.epochs=1")


def plan(
    run_id: str,
    *,
    data: str = "a",
    holdout: int = 0,
    precision: str = "fp32",
    batch: int = 64,
    epochs: int = 10,
    threads: int | None = None,
):
    """The attributes of a plan that the grouping reads."""
    return SimpleNamespace(
        run_id=run_id,
        identity={"data": {"train": data, "test": None, "holdout": holdout, "mean": [0.5, 0.5, 0.5]}},
        precision=precision,
        recipe=SimpleNamespace(batch_size=batch, epochs=epochs),
        device="cpu",
        config={"engine": {"threads": threads, "device": "cpu"}},
    )


def ids(groups) -> list[str]:
    return ["".join(member.run_id for member in group) for group in groups]


def test_runs_that_can_share_a_loop_do() -> None:
    assert ids(execute.cohorts([plan("a"), plan("b"), plan("c")], size=8)) == ["abc"]


@pytest.mark.parametrize(
    "other",
    [{"data": "b"}, {"holdout": 5}, {"precision": "bf16"}, {"batch": 32}, {"epochs": 20}, {"threads": 2}],
    ids=str,
)
def test_what_differs_in_kind_is_kept_apart(other) -> None:
    plans = [plan("a"), plan("b", **other), plan("c"), plan("d", **other)]
    assert ids(execute.cohorts(plans, size=8)) == ["ac", "bd"]


def test_a_cohort_has_at_most_size_members() -> None:
    plans = [plan(letter) for letter in "abcde"]
    assert ids(execute.cohorts(plans, size=2)) == ["ab", "cd", "e"]
    assert ids(execute.cohorts(plans, size=1)) == list("abcde")


def test_one_run_asked_for_twice_is_trained_once() -> None:
    assert ids(execute.cohorts([plan("a"), plan("b"), plan("a")], size=8)) == ["ab"]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`train(STORE, *words)`: the exit code, and how many members each call of `fit` had."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sizes: list[int] = []
    fit = execute.fit

    def counted(members, **options):
        sizes.append(len(members))
        return fit(members, **options)

    monkeypatch.setattr(execute, "fit", counted)

    def run(store: str, *words: str) -> tuple[int, list[int]]:
        sizes.clear()
        code = main(["train", *words, *TINY, f"runs_dir={store}"])
        return code, list(sizes)

    return run


def results(store: str) -> dict[str, tuple[bytes, bytes]]:
    """Weights and metrics of every finished run of a store, by its folder's name."""
    return {
        path.parent.name: (path.parent.joinpath("student.safetensors").read_bytes(), path.read_bytes())
        for path in sorted(Path(store).glob("*/metrics.jsonl"))
        if (path.parent / "result.json").is_file()
    }


def test_a_cohort_makes_the_runs_that_are_made_one_by_one(train, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("-m", "loss=ce,zscore_kd", "seed=1,2")
    assert train("together", *grid, "hydra/launcher=cohort") == (0, [1, 4])  # the teacher, then all its students
    printed = capsys.readouterr().out
    assert "4 of 4 runs finished" in printed
    one_by_one = [train("alone", f"loss={loss}", f"seed={s}") for loss in ("ce", "zscore_kd") for s in (1, 2)]
    assert one_by_one == [(0, [1]), (0, [1]), (0, [1, 1]), (0, [1])]
    together, alone = results("together"), results("alone")
    assert len(alone) == 5  # four runs and the teacher of two of them
    assert together == alone
    assert len({weights for weights, _ in alone.values()}) == 5
    for name in alone:
        found, expected = (json.loads(Path(s, name, "result.json").read_text()) for s in ("together", "alone"))
        for result in (found, expected):
            for clock in ("finished", "seconds", "peak_memory_bytes", "seal"):
                del result[clock]
        assert found.pop("side_by_side", 4) == 4  # the teacher was trained alone
        assert found == expected

    assert main(["table", "runs_dir=together"]) == 0
    assert "\n* seconds of runs that were trained side by side" in capsys.readouterr().out
    assert train("together", *grid, "hydra/launcher=cohort") == (0, [])  # typed again: finished before
    assert capsys.readouterr().out.count("was finished before") == 4


def test_a_run_that_is_left_over_trained_alone(train) -> None:
    """Of a cohort, one run is finished already: the other one shares its time with none."""
    train("runs", "loss=ce", "seed=1")
    code, sizes = train("runs", "-m", "loss=ce", "seed=1,2", "hydra/launcher=cohort")
    assert (code, sizes) == (0, [1])
    for path in Path("runs").glob("*/result.json"):
        assert "side_by_side" not in json.loads(path.read_text())


def test_jobs_come_in_cohorts_of_the_size_asked_for(train) -> None:
    sized = ("hydra/launcher=cohort", "hydra.launcher.size=2")
    assert train("runs", "-m", *sized, "loss=ce", "seed=1,2,3", "recipe.epochs=1") == (0, [2, 1])


def test_two_names_of_one_run_are_one_run(train, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("-m", "loss.alpha=0.9,0.90", "hydra/launcher=cohort", "recipe.epochs=1")
    assert train("runs", *grid) == (0, [1, 1])  # the teacher and the run
    assert "2 of 2 runs finished" in capsys.readouterr().out


@pytest.mark.parametrize(("launcher", "sizes"), [((), [1, 1, 1]), (("hydra/launcher=cohort",), [3])])
def test_a_job_is_composed_and_checked_once(train, launcher, sizes, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[str, ...]] = []
    preflight = sweep.preflight

    def noted(composed, *rest, **options):
        checked.append(composed.overrides)
        return preflight(composed, *rest, **options)

    def never(*rest, **options):
        raise AssertionError("composed again")

    monkeypatch.setattr(sweep, "preflight", noted)
    monkeypatch.setattr(jobs, "preflight", never)
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", never)
    words = ("-m", "loss=ce", "seed=1,2,3", "recipe.epochs=1")
    assert train("runs", *words, *launcher) == (0, sizes)
    assert len(checked) == 3


def test_the_cohorts_of_a_sweeper_of_ones_own_are_composed_by_it(train) -> None:
    """Any setting of Hydra's hands the jobs to its sweeper; the launcher gets them from there."""
    assert train("runs", *THREE, "hydra.sweeper.max_batch_size=2") == (0, [2, 1])


def without_memory(monkeypatch: pytest.MonkeyPatch, *, room: int, after: int = 0) -> list[int]:
    """Let `fit` run out of memory with more than `room` members, after `after` of them have failed; their numbers."""
    sizes: list[int] = []
    fit = execute.fit

    def limited(members, **options):
        sizes.append(len(members))
        if len(members) > room:
            for member in members[:after]:
                member.stop(NonFinite(1, 1, "ce"))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return fit(members, **options)

    monkeypatch.setattr(execute, "fit", limited)
    return sizes


def test_a_cohort_that_runs_out_of_memory_goes_on_in_halves(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("whole", *THREE)[0] == 0
    sizes = without_memory(monkeypatch, room=2)
    capsys.readouterr()
    assert train("halved", *THREE)[0] == 0
    assert sizes == [3, 2, 1]
    assert "out of memory on cpu with 3 runs side by side: now 2 at a time\n" in capsys.readouterr().out
    assert results("halved") == results("whole")


def test_a_cohort_is_halved_once_and_typed_again_it_goes_on(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        sizes = without_memory(patch, room=1)
        assert train("runs", *THREE)[0] == 1
    assert sizes == [3, 2, 1]
    told = capsys.readouterr()
    assert "1 of 3 runs finished" in told.out
    assert told.err.count("out of memory on cpu: set hydra.launcher.size or recipe.batch_size lower") == 2
    assert "Traceback" not in told.err
    assert train("runs", *THREE) == (0, [2])  # nothing is marked as failed


def test_one_run_without_memory_is_a_sentence(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_memory(monkeypatch, room=0)
    assert train("runs", "loss=ce")[0] == 1
    told = capsys.readouterr().err
    assert told.endswith("out of memory on cpu: set recipe.batch_size lower\n")
    assert len(told.splitlines()) == 1


def test_a_member_that_had_failed_is_not_trained_again(
    train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = without_memory(monkeypatch, room=2, after=1)
    assert train("runs", *THREE, "--retry")[0] == 1
    assert sizes == [3, 1, 1]
    assert "2 of 3 runs finished" in capsys.readouterr().out


@pytest.mark.parametrize(("processes", "ending"), [(1, None), (2, ProcessLost)])
def test_an_unreadable_photograph_ends_a_process_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch, processes: int, ending: type[Exception] | None
) -> None:
    """Alone, the runs are listed as failed; there are none here."""

    def fit(*_: object, **__: object) -> None:
        raise UnreadableImage("a.jpg cannot be read")

    monkeypatch.setattr(execute, "fit", fit)
    monkeypatch.setattr(execute, "step_engine", lambda *_: nullcontext())
    console = execute.Console(print, Silent())
    cohort = execute.Cohort(retry=False, console=console, teacher_epochs={}, world=World(0, processes))
    with pytest.raises(ending, match=r"a\.jpg cannot be read") if ending else nullcontext():
        execute._train(cohort, {}, torch.device("cpu"))
