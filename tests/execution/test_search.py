"""`sweep=optuna`: proposals, early ends, taking up, and what follows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill.cli import main
from distill.config.faults import Fault, Refused
from distill.config.tuning import Choice, Combination, HoldoutTuning, Range, Search, corners, override, read_space
from distill.execution import jobs
from distill.execution.stopping import EndedEarly, Interrupted, RunFailed
from distill.runs.store import scan

optuna = pytest.importorskip("optuna", reason="the extra is not installed: pip install 'distill[optuna]'")
from distill.execution import search as optimise  # noqa: E402 - it imports optuna

LINE = (
    "train sweep=optuna loss=kd sweep.search.trials=2 sweep.select.seeds=1 dataset=synthetic dataset.image_size=16 "
    "dataset.train_size=60 dataset.test_size=20 teacher=resnet8 teacher.source=live teacher.recipe.epochs=1 "
    "recipe.epochs=1 engine.device=cpu"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def students(*, holdout: bool) -> list[Any]:
    found = [run for run in scan(Path("runs")) if run.names["teacher"] != "none"]
    return [run for run in found if bool(run.identity["data"]["holdout"]) == holdout]


def trials() -> list[Any]:
    (journal,) = Path("runs/.optuna").glob("*/journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    (name,) = optuna.study.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def test_the_best_proposal_is_trained_on_all_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE.split(), "sweep.select.seeds=2"]) == 0
    tried, final = students(holdout=True), students(holdout=False)
    assert len(tried) == 2
    assert [run.identity["seed"] for run in final] == [1, 2]
    best = max(trials(), key=lambda trial: trial.value)
    assert best.value == max(run.result["last"]["accuracy"] for run in tried)
    for run in final:
        for key, value in best.params.items():
            assert run.config["loss"][key.removeprefix("loss.")] == pytest.approx(value, rel=1e-3)
    assert "the best of 2 configurations; now on all images, 2 seeds of students" in capsys.readouterr().out


def test_a_search_typed_again_is_done_and_one_that_asks_for_more_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINE.split()) == 0
    before = [trial.params for trial in trials()]
    capsys.readouterr()
    assert main(LINE.split()) == 0
    assert "trial " not in capsys.readouterr().out
    assert main([*LINE.split(), "sweep.search.trials=3"]) == 0
    after = [trial.params for trial in trials()]
    assert after[:2] == before
    assert len(after) == 3
    assert after[2] not in before, "the sampler must not begin anew"


def test_a_proposal_made_twice_is_one_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "presets/sweep").mkdir(parents=True)
    (folder / "presets/sweep/one.yaml").write_text(
        "# @package _global_\nsweep:\n  search: {trials: 2, seed: 0, space: {loss.temperature: [2.0]}}\n"
        "  select: {holdout: 0.1, seeds: 1}\n"
    )
    line = LINE.replace("sweep=optuna", "sweep=one --config-dir presets")
    assert main(line.split()) == 0
    assert [trial.params for trial in trials()] == [{"loss.temperature": 2.0}] * 2
    assert "held-out images\n  the best of 1 configurations; now on all images" in capsys.readouterr().out


def test_a_trial_that_is_cut_off_is_proposed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, or stopped by the user: the trial is neither lost nor counted twice."""
    execute = optimise.execute
    calls = []

    def cut_off(plans: Any, *rest: Any, **options: Any) -> Any:
        calls.append(plans[0].run_id)
        if len(calls) == 2:
            raise Interrupted("stopped")
        return execute(plans, *rest, **options)

    monkeypatch.setattr(optimise, "execute", cut_off)
    assert main(LINE.split()) == 1
    assert main(LINE.split()) == 0
    assert calls[2] == calls[1], "it goes on with the run that was cut off"
    assert len(set(calls)) == 2
    assert len(students(holdout=True)) == 2


def test_a_poor_trial_ends_early(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Hopeless(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            assert trial.intermediate_values.keys() == {1}
            return trial.number == 1

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: Hopeless())
    assert main([*LINE.split(), "recipe.epochs=2", "sweep.search.trials=3"]) == 0
    states = [trial.state.name for trial in trials()]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]
    told = capsys.readouterr().out
    assert "the search: 2 trials finished, 1 ended early" in told
    assert sorted(run.status for run in students(holdout=True)) == ["finished", "finished", "unfinished"]


def test_a_point_that_is_refused_between_sound_ends_fails_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preflight = optimise.preflight
    refused = iter([True])

    def once(*words: Any) -> Any:
        if next(refused, False):
            raise Refused([Fault("loss", "value", "temperature must not be so: change it")])
        return preflight(*words)

    monkeypatch.setattr(optimise, "preflight", once)
    assert main(LINE.split()) == 0
    assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE"]
    assert "temperature must not be so: change it" in capsys.readouterr().out
    for _ in range(2):  # the second time there is nothing left
        assert main([*LINE.split(), "--retry"]) == 0
        assert [trial.state.name for trial in trials()] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials()[2].params == trials()[0].params


def test_a_key_that_is_set_is_not_searched() -> None:
    assert main([*LINE.split(), "loss.temperature=3", "sweep.search.trials=1"]) == 0
    (trial,) = trials()
    assert trial.params.keys() == {"loss.kd_weight"}
    assert {run.config["loss"]["temperature"] for run in students(holdout=True) + students(holdout=False)} == {3.0}


def test_another_seed_is_another_search(folder: Path) -> None:
    plan = SimpleNamespace(directory=folder / "run")
    names = {optimise._name(Search(2, seed, (Choice("a", (1, 2)),), ()), plan) for seed in (0, 1, 2)}
    assert len(names) == 3


def test_names_of_others_are_printed_as_escapes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of methods, proposed values, runs and failures, however a trial ends."""
    hostile = "a\x1b[2Jb\nc\u202e"
    endings = iter(
        [
            [RunFailed(f"{hostile}: ce is not finite")],
            Refused([Fault("loss", "value", f"{hostile} must not be so")]),
            EndedEarly(hostile),
            [{"last": {"accuracy": 50.0}}],
        ]
    )

    def execute(plans: Any, console: Any, **_: Any) -> Any:
        console.note(f"{hostile} is the teacher")
        ending = next(endings)
        if isinstance(ending, Exception):
            raise ending
        return ending

    plan = SimpleNamespace(runs_dir=folder, directory=folder / "run", recipe=SimpleNamespace(epochs=1))
    monkeypatch.setattr(optimise, "execute", execute)
    monkeypatch.setattr(optimise, "preflight", lambda *_: plan)
    presets = SimpleNamespace(compose=lambda overrides: overrides)
    search = Search(4, 0, (Choice("loss.variant", (hostile, f"{hostile}2")),), ((f"loss={hostile}",),))
    methods = [Combination((f"loss={hostile}",), (), (0,))]
    chosen = list(optimise.optimise(search, methods, [plan], presets, retry=False))
    tuning = HoldoutTuning(10, 1, (), ())
    monkeypatch.setattr(jobs, "prepare", lambda *_, **__: (presets, None))
    monkeypatch.setattr(jobs, "_run", lambda *_, **__: [])
    none = Combination((f"loss={hostile}2",), (), (1,))
    list(jobs._train_chosen(chosen, replace(tuning, combinations=(none,)), config_dir=None, retry=False, note=print))
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert all(line.isprintable() for line in lines), lines
    assert len(lines) == 4 * 2 + 3 + 1 + 2 + 1, (
        lines
    )  # notes and trials, ends but one, the search, the choice, no other
    assert "3 ended" not in told
    assert told.count("a\\x1b[2Jb\\nc\\u202e") > 10


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sweep.search.trials=0"], "sweep.search.trials must be >= 1, got 0"),
        (["sweep.search.space={loss.temprature:[1,2]}"], "loss.temprature is not a key of"),
        (["sweep.search.space={loss.temperature:{low:0.0,high:8.0}}"], "temperature must be > 0, got 0.0"),
        (["sweep.search.space={loss.temperature:{low:8.0,high:1.0}}"], "sweep.search.space.loss.temperature must have"),
        (["sweep.select=null"], "sweep.search needs held-out images to compare its trials"),
        (["hydra/launcher=cohort"], "a search runs its trials one after the other"),
        (["seed=1,2"], "a search proposes values itself and takes one seed"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    capsys: pytest.CaptureFixture[str], overrides: list[str], sentence: str
) -> None:
    assert main([*LINE.split(), *overrides]) == 2
    assert capsys.readouterr().err.startswith(sentence)
    assert not Path("runs").exists()


def test_a_space_is_read_whole() -> None:
    space = read_space({"a": {"low": 1, "high": 8}, "b": {"low": 0.5, "high": 2.0, "log": True}, "c": ["x", "y", "z"]})
    assert space == (Range("a", 1, 8, False), Range("b", 0.5, 2.0, True), Choice("c", ("x", "y", "z")))
    assert [each.whole for each in space[:2]] == [True, False]
    assert corners(["base"], space) == [
        ["base", "++a=1", "++b=0.5", "++c=x"],
        ["base", "++a=8", "++b=2", "++c=y"],
        ["base", "++a=8", "++b=2", "++c=z"],
    ]
    with pytest.raises(ValueError, match=r"space\.a must have numbers with 0 < low < high(.|\n)*space\.b must be"):
        read_space({"a": {"low": 0, "high": 1, "log": True}, "b": 3})
    with pytest.raises(ValueError, match=r"space\.a lists no value: add some, or leave the key out"):
        read_space({"a": []})


def test_numbers_are_proposed_in_four_digits() -> None:
    assert override("loss.temperature", 4.84217) == "++loss.temperature=4.842"
    assert override("recipe.epochs", 12345) == "++recipe.epochs=12345"
    assert override("recipe.ema", 0.99987654) == "++recipe.ema=0.9998765"  # of the distance to 1
    assert override("recipe.ema", 0.5) == "++recipe.ema=0.5"
    assert override("recipe.ema", None) == "++recipe.ema=null"
