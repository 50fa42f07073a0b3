"""`hydra/launcher=cohort`: the same runs as one by one, to the byte, in fewer loops."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.cli import main
from distill.execution import cohort_size, execute
from distill.execution.cohort import cohorts

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
    """What the grouping looks at."""
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
    assert ids(cohorts([plan("a"), plan("b"), plan("c")], size=8)) == ["abc"]


@pytest.mark.parametrize(
    "other",
    [{"data": "b"}, {"holdout": 5}, {"precision": "bf16"}, {"batch": 32}, {"epochs": 20}, {"threads": 2}],
    ids=str,
)
def test_what_differs_in_kind_is_kept_apart(other) -> None:
    plans = [plan("a"), plan("b", **other), plan("c"), plan("d", **other)]
    assert ids(cohorts(plans, size=8)) == ["ac", "bd"]


def test_a_cohort_has_at_most_size_members() -> None:
    plans = [plan(letter) for letter in "abcde"]
    assert ids(cohorts(plans, size=2)) == ["ab", "cd", "e"]
    assert ids(cohorts(plans, size=1)) == list("abcde")


def test_one_run_asked_for_twice_is_trained_once() -> None:
    assert ids(cohorts([plan("a"), plan("b"), plan("a")], size=8)) == ["ab"]


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
            for clock in ("finished", "seconds", "peak_memory_bytes"):
                del result[clock]
        assert found == expected

    assert train("together", *grid, "hydra/launcher=cohort") == (0, [])  # typed again: finished before
    assert capsys.readouterr().out.count("was finished before") == 4


def test_jobs_come_in_cohorts_of_the_size_asked_for(train) -> None:
    sized = ("hydra/launcher=cohort", "hydra.launcher.size=2")
    assert train("runs", "-m", *sized, "loss=ce", "seed=1,2,3", "recipe.epochs=1") == (0, [2, 1])


def test_two_names_of_one_run_are_one_run(train, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ("-m", "loss.alpha=0.9,0.90", "hydra/launcher=cohort", "recipe.epochs=1")
    assert train("runs", *grid) == (0, [1, 1])  # the teacher and the run
    assert "2 of 2 runs finished" in capsys.readouterr().out


def test_without_a_size_the_memory_decides(
    train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ("-m", "hydra/launcher=cohort", "loss=ce", "seed=1,2,3", "recipe.epochs=1")
    needs: list[tuple[int, int]] = []
    told = cohort_size._told

    def noted(each, once, free, note) -> int:
        needs.append((each, once))
        return told(each, once, free, note)

    monkeypatch.setattr(cohort_size, "_told", noted)
    assert train("ample", *grid) == (0, [3])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cohorts of")]
    assert line.startswith("cohorts of up to 16: about ")
    ((each, once),) = needs
    monkeypatch.setattr(cohort_size, "free_bytes", lambda device: (2.5 * each + once) / cohort_size.SHARE)
    assert train("scarce", *grid) == (0, [2, 1])
    assert results("scarce") == results("ample")
