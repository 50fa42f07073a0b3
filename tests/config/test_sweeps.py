"""All jobs of a sweep are composed and checked before the first starts."""

import pickle

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from distill.config.compose.presets import Presets
from distill.config.sweep import job_of, prepare


def test_jobs_are_those_of_hydras_own_sweeper_in_its_order(shipped: Presets) -> None:
    overrides = [
        "loss=ce,kd",
        "seed=range(1,4)",
        "recipe.epochs=choice(2,3)",
        "student=resnet8",
        "loss.temperature=2,4",
    ]
    parsed, faults = shipped.parse(overrides)
    assert faults == []
    handed_on = shipped.parse([shipped.text(o) for o in parsed])[0]
    (batch,) = BasicSweeper.split_arguments(handed_on, None)
    jobs = shipped.jobs(parsed)
    assert [sorted(job) for job in jobs] == [sorted(job) for job in batch]
    assert len(jobs) == 2 * 3 * 2 * 2


def test_a_sweep_preset_implies_a_sweep(command) -> None:
    plans = command.plans(*command.tiny, "sweep=seeds", "loss=ce")
    assert [plan.seed for plan in plans] == [1, 2, 3, 4]


def test_keys_of_the_user_replace_those_of_the_preset(command) -> None:
    plans = command.plans(*command.tiny, "sweep=demo", "seed=1")
    assert [(plan.names["loss"], plan.seed) for plan in plans] == [("ce", 1), ("kd", 1), ("zscore_kd", 1)]
    plans = command.plans(*command.tiny, "sweep=demo", "loss=kd", "seed=5,6", multirun=True)
    assert [(plan.names["loss"], plan.seed) for plan in plans] == [("kd", 5), ("kd", 6)]


def test_a_fault_in_one_job_stops_all_and_is_counted(command) -> None:
    sentences = command.refused(*command.tiny, "loss.temperature=1,-1", "seed=1,2", multirun=True)
    assert sentences == [
        "temperature must be > 0, got -1.0: set loss.temperature to a positive number (in 2 of 4 jobs)"
    ]


def test_a_fault_in_every_job_is_told_once(command) -> None:
    sentences = command.refused(*command.tiny, "recipe.epoch=3", "seed=1,2", multirun=True)
    assert sentences == ["recipe.epoch is not a key of distill.training.Recipe: did you mean 'epochs'?"]


def test_an_option_that_does_not_exist_hides_no_other_fault(command) -> None:
    sentences = command.refused(*command.tiny, "loss=kd,zscre_kd", "seed=1,x", multirun=True)
    assert sentences == [
        "loss=zscre_kd does not exist: did you mean 'zscore_kd'?",
        "seed must be an integer, got 'x' (in 1 of 2 jobs)",
    ]


def test_a_preset_without_what_is_swept_is_refused(command) -> None:
    sentences = command.refused(*command.tiny, "sweep=temperature", "loss=ce")
    assert sentences == ["loss.temperature is not a key of distill.losses.CrossEntropy: there are ce_weight"]


def test_one_sweep_at_a_time(command) -> None:
    sentences = command.refused(*command.tiny, "sweep=seeds,alpha", multirun=True)
    assert sentences == ["sweep=seeds,alpha names several values: choose one sweep preset"]


def test_a_swept_experiment_may_not_choose_the_launcher(command, presets_of) -> None:
    """Hydra would ignore it without a word."""
    text = """\
    # @package _global_
    defaults:
      - override /hydra/launcher: cohort
    """
    own = presets_of({"experiment/side_by_side.yaml": text})
    (sentence,) = command.refused(*command.tiny, "experiment=demo,side_by_side", multirun=True, config_dir=own)
    assert sentence.startswith("a preset that is swept over sets hydra.launcher or hydra.sweeper, which Hydra would")
    assert sentence.endswith("hydra/launcher=cohort (in 1 of 2 jobs)")
    plans = command.plans(*command.tiny, "experiment=side_by_side", "seed=1,2", multirun=True, config_dir=own)
    assert len(plans) == 2  # not swept over, it is heard
    swept = (*command.tiny, "experiment=demo,side_by_side", "hydra/launcher=cohort")
    assert len(command.plans(*swept, multirun=True, config_dir=own)) == 2


def test_nothing_is_downloaded_while_any_job_is_wrong(command) -> None:
    data = ("dataset=cifar10", "dataset.download=true", "dataset.root=nowhere", "loss=ce")
    sentences = command.refused(*data, "seed=1,-1", multirun=True, may_download=True)
    assert sentences == ["seed must be >= 0, got -1: set seed=1, for example (in 1 of 2 jobs)"]
    (sentence,) = command.refused(*data, "student=timm", "student.name=vit_tiny_patch16_224", may_download=True)
    assert (
        "height (32) doesn't match model (224)" in sentence
    )  # the size of CIFAR's images is known before they are here


def test_showing_a_configuration_downloads_nothing(command) -> None:
    (sentence,) = command.refused("dataset=cifar10", "dataset.download=true", "dataset.root=nowhere", "loss=ce")
    assert sentence.startswith("the data set is not here yet")


def test_what_is_absent_is_fetched_once_all_is_checked(command, image_files, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.config import parts

    asked = []
    build = parts.build_dataset

    def fetch(node):
        asked.append(node["download"])
        if not node["download"]:
            return build(node)
        return build({**node, "download": False, "npz": str(image_files[10])})

    monkeypatch.setattr(parts, "build_dataset", fetch)
    data = ("dataset=cifar10", "dataset.download=true", "dataset.root=nowhere", "loss=ce")
    plans = command.plans(*data, "seed=1,2", multirun=True, may_download=True)
    assert asked == [False, False, True, True]
    assert len({plan.run_id for plan in plans}) == 2


def test_a_pattern_stands_for_the_options_it_matches(command) -> None:
    plans = command.plans(*command.tiny, "loss=glob(kd*,exclude=*soft*)", multirun=True)
    assert [plan.names["loss"] for plan in plans] == ["kd", "kd_w09_t2", "kd_w9_t2"]
    (told,) = command.refused(*command.tiny, "loss=glob(zz*)", multirun=True)
    assert told.startswith("loss=glob(zz*) matches no option: there are ab, ")


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (("sweep=temperature", "sweep.params.loss.temperature=1,4"), "loss.temperature", [1.0, 4.0]),
        (("sweep=seeds", "+sweep.params.seed=5,6"), "seed", [5, 6]),
        (("sweep=seeds", "sweep.params.seed=7"), "seed", [7]),
    ],
)
def test_values_set_for_a_sweep_preset_replace_its_own(command, words, key: str, expected: list[float]) -> None:
    plans = command.plans(*command.tiny, *words, "sweep.select=null", multirun=True)
    found = [plan.config[key] if key == "seed" else plan.config["loss"]["temperature"] for plan in plans]
    assert found == expected


def test_a_plan_goes_to_another_process_without_its_arrays(command) -> None:
    plan = command.plan(*command.tiny, "loss=kd", "teacher=resnet8")
    sent = pickle.dumps(plan)
    assert len(sent) < 20_000
    found = pickle.loads(sent)
    assert (found.run_id, found.directory, found.method) == (plan.run_id, plan.directory, plan.method)
    assert found.teacher.plan.run_id == plan.teacher.plan.run_id
    assert found.dataset.digest == plan.dataset.digest
    assert found.recipe.epochs == plan.recipe.epochs


def test_the_plans_of_a_sweep_are_found_by_the_overrides_of_their_jobs(shipped: Presets) -> None:
    words = ["dataset=synthetic", "dataset.image_size=16", "loss=ce,kd", "seed=1,2", "hydra/launcher=cohort"]
    _, sweep = prepare(words, multirun=True, config_dir=None, faults=[], may_download=False)
    handed_on = shipped.parse([text for text in sweep.overrides if not text.startswith("hydra")])[0]
    (batch,) = BasicSweeper.split_arguments(handed_on, None)
    assert [sweep.planned[job_of(job)].run_id for job in batch] == [plan.run_id for plan in sweep.jobs]
