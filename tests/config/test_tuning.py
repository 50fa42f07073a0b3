"""A sweep that tunes: the grid on held-out images, then the best cell of each method on all."""

import pytest

from distill.config.compose.presets import Presets
from distill.config.sweep import prepare
from distill.config.tuning import Combination, best_of_each_method, combinations_of, holdout_size

GRID = ("sweep=temperature", "loss=kd,zscore_kd", "loss.temperature=1,4")


def prepared(*overrides: str):
    _, sweep = prepare(overrides, multirun=False, config_dir=None, faults=[], may_download=False)
    return sweep


def test_the_grid_is_trained_without_the_held_out_images(command) -> None:
    sweep = prepared(*command.tiny, *GRID)
    assert [job.dataset.holdout for job in sweep.jobs] == [20] * 4  # a tenth of 200
    assert {job.teacher.plan.dataset.holdout for job in sweep.jobs} == {20}, (
        "the teacher must not have seen them either"
    )
    assert [job.names["loss"] for job in sweep.jobs] == [
        "kd temperature=1",
        "kd",
        "zscore_kd temperature=1",
        "zscore_kd temperature=4",
    ]


def test_numbers_of_a_search_are_cast_and_its_seed_may_be_left_out(command) -> None:
    pytest.importorskip("optuna", reason="the extra is not installed: pip install 'distill[optuna]'")
    search = prepared(*command.tiny, "sweep=optuna", "sweep.search.trials=3.0", "~sweep.search.seed").search
    assert search is not None
    assert repr((search.trials, search.seed)) == "(3, 0)"


def test_hydra_makes_the_same_jobs_again_from_the_overrides_handed_on(command) -> None:
    sweep = prepared(*command.tiny, *GRID)
    again = prepared(*sweep.overrides)
    assert [job.run_id for job in again.jobs] == [job.run_id for job in sweep.jobs]


def test_a_chosen_cell_is_trained_on_all_images_over_its_seeds(command) -> None:
    sweep = prepared(*command.tiny, *GRID, "sweep.select.seeds=3", "seed=7,8")
    assert sweep.tuning is not None
    zscore_hot = sweep.tuning.combinations[3]
    assert (zscore_hot.method, zscore_hot.values) == (("loss=zscore_kd",), ("++loss.temperature=4",))
    assert zscore_hot.jobs == (6, 7), "seeds are runs of one cell"
    final = prepared(*sweep.tuning.overrides(zscore_hot))
    assert final.tuning is None
    assert [job.seed for job in final.jobs] == [1, 2, 3]
    plain = command.plans(*command.tiny, "loss=zscore_kd", "loss.temperature=4", "seed=1,2,3", multirun=True)
    assert [job.run_id for job in final.jobs] == [job.run_id for job in plain]


def test_a_hold_out_of_ones_own_is_taken_and_dropped_at_the_end(command) -> None:
    sweep = prepared(*command.tiny, *GRID, "dataset.holdout=40")
    assert {job.dataset.holdout for job in sweep.jobs} == {40}
    assert sweep.tuning is not None
    assert sweep.tuning.holdout == 40
    final = prepared(*sweep.tuning.overrides(sweep.tuning.combinations[0]))
    assert {job.dataset.holdout for job in final.jobs} == {0}


@pytest.mark.parametrize(("override", "seeds"), [("teacher.seed=5", [5, 5]), ("teacher.seed=0,1", [0, 1, 0, 1])])
def test_the_teachers_that_tuned_teach_on_all_images_too(command, override: str, seeds: list[int]) -> None:
    sweep = prepared(*command.tiny, *GRID, override, "sweep.select.seeds=2")
    final = prepared(*sweep.tuning.overrides(sweep.tuning.combinations[0]))
    assert sorted(job.teacher.plan.seed for job in final.jobs) == sorted(seeds)
    assert {job.teacher.plan.seed for job in sweep.jobs} == set(seeds)


def test_null_may_be_swept_by_a_preset(command, presets_of) -> None:
    own = presets_of({"sweep/plain.yaml": "# @package _global_\nsweep:\n  params:\n    recipe.ema: null\n"})
    (plan,) = command.plans(*command.tiny, "sweep=plain", config_dir=own)
    assert plan.config["recipe"]["ema"] is None


def test_without_selection_the_grid_stands_alone(command) -> None:
    sweep = prepared(*command.tiny, *GRID, "sweep.select=null")
    assert sweep.tuning is None
    assert {job.dataset.holdout for job in sweep.jobs} == {0}


def test_the_papers_grid_of_tau_and_weight(command) -> None:
    plans = command.plans(*command.tiny, "sweep=tau_weight", "loss=zscore_kd")
    assert len(plans) == 10
    assert {plan.config["loss"]["ce_weight"] for plan in plans} == {0.1}
    assert {plan.config["loss"]["kd_weight"] for plan in plans} == {3, 6, 9, 12, 15}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sweep.select.holdout=1.5", "sweep.select.holdout must be between 0 and 1, got 1.5"),
        ("sweep.select.seeds=0", "sweep.select.seeds must be >= 1, got 0"),
        ("sweep.select.seed=1", "sweep.select.seed is not a key: did you mean 'seeds'?"),
        ("sweep.select.seeds=1,2", "sweep.select.seeds=1,2 names several values: choose one"),
        ("sweep.select=yes", "sweep.select is a group, got"),
        ("dataset.holdout=0", "a sweep that tunes needs one dataset.holdout > 0"),
        ("dataset.holdout=20,40", "a sweep that tunes needs one dataset.holdout > 0"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(command, override: str, sentence: str) -> None:
    (told,) = command.refused(*command.tiny, *GRID, override)
    assert told.startswith(sentence)


def test_the_best_mean_wins_and_the_first_of_equals() -> None:
    kd = [Combination(("loss=kd",), (f"t={t}",), (2 * t, 2 * t + 1)) for t in range(3)]
    accuracies = {0: 60.0, 1: 50.0, 2: 56.0, 3: 56.0, 4: 70.0}  # the third cell lacks a run
    (chosen,) = best_of_each_method(kd, accuracies)
    assert (chosen.combination, chosen.accuracy, chosen.tried) == (kd[1], 56.0, 2)
    assert chosen.rank == "the best of 2 configurations"
    (first,) = best_of_each_method(kd[:2], {0: 56.0, 1: 56.0, 2: 56.0, 3: 56.0})
    assert first.combination is kd[0]
    assert first.rank == "the first of 2 that tie as the best of 2 configurations"


def test_methods_are_judged_apart() -> None:
    cells = [Combination((f"loss={loss}",), (), (n,)) for n, loss in enumerate(("kd", "zscore_kd"))]
    assert [each.combination for each in best_of_each_method(cells, {0: 1.0, 1: 2.0})] == cells
    assert [each.combination for each in best_of_each_method(cells, {1: 2.0})] == [cells[1]]


def test_groups_are_compared_values_tuned_and_seeds_averaged(shipped: Presets) -> None:
    jobs = [
        ["student=resnet8", f"loss={loss}", f"++recipe.epochs={epochs}", f"++seed={seed}"]
        for loss in ("ce", "kd")
        for epochs in (1, 2)
        for seed in (5, 6)
    ]
    fixed, cells = combinations_of(jobs, shipped)
    assert fixed == ("student=resnet8",)
    assert [(cell.method, cell.values, cell.jobs) for cell in cells[:2]] == [
        (("loss=ce",), ("++recipe.epochs=1",), (0, 1)),
        (("loss=ce",), ("++recipe.epochs=2",), (2, 3)),
    ]
    assert len(cells) == 4


def test_a_share_of_few_images_is_one_image_at_least() -> None:
    assert holdout_size(0.1, 50_000) == 5_000
    assert holdout_size(0.001, 20) == 1
