"""A method of two stages: the first is a run of its own, identified, shared and checked like any other."""

import pytest

from distill.config.plan import RunPlan
from distill.runs.layout import run_path

# labels alone, from a student that has first learned the teacher's logits (or from something beside the teacher)
TWO_STAGES = """\
_target_: distill.losses.CrossEntropy
ce_weight: 1.0
first_stage:
  network: {network}
  epochs: 30
  loss:
    _target_: distill.losses.LogitRegression
    distance: {{_target_: distill.losses.logit_mse, _partial_: true}}
    ce_weight: 0.0
    kd_weight: 1.0
    alpha: null
"""


@pytest.fixture
def own(presets_of):
    return presets_of(
        {
            "loss/two.yaml": TWO_STAGES.format(network="student"),
            "loss/beside.yaml": TWO_STAGES.format(network="teacher"),
        }
    )


def test_the_first_stage_is_a_run_with_the_student_and_its_teacher(command, own) -> None:
    plan = command.plan(*command.tiny, "loss=two", "seed=3", "teacher=resnet14", config_dir=own)
    first = plan.first_stage
    assert isinstance(first, RunPlan)
    assert isinstance(plan.teacher.plan, RunPlan)
    assert first.config["student"] == plan.config["student"]
    assert first.teacher is not None
    assert first.teacher.plan.run_id == plan.teacher.plan.run_id
    assert first.seed == 3
    assert first.method.needs_teacher
    assert not plan.method.needs_teacher  # the labels alone; its teacher taught the first stage
    assert plan.identity["teacher"] == {"run": plan.teacher.plan.run_id}
    assert plan.identity["objective"]["first_stage"] == {"run": first.run_id}
    assert (plan.names["loss"], plan.names["teacher"]) == ("two", "resnet14")
    assert (first.names["loss"], first.names["teacher"]) == ("two first_stage", "resnet14")
    short = {"student": "resnet8", "seed": 3}
    assert plan.directory == run_path(plan.runs_dir, objective="ce", run_id=plan.run_id, **short)
    assert first.directory == run_path(plan.runs_dir, objective="logit_mse", run_id=first.run_id, **short)


def test_it_smooths_labels_as_the_recipe_does_and_averages_no_weights(command, own) -> None:
    plan = command.plan(*command.tiny, "loss=two", "recipe.label_smoothing=0.1", "recipe.ema=0.99", config_dir=own)
    assert (plan.recipe.label_smoothing, plan.recipe.ema) == (0.1, 0.99)
    assert (plan.first_stage.recipe.label_smoothing, plan.first_stage.recipe.ema) == (0.1, None)


def test_its_epochs_scale_with_the_recipe_and_its_rate_is_constant(command, own) -> None:
    for epochs, expected in ((240, 30), (24, 3), (1, 1)):
        plan = command.plan(*command.tiny, "loss=two", f"recipe.epochs={epochs}", config_dir=own)
        recipe = plan.first_stage.recipe
        assert (recipe.epochs, recipe.reference_epochs) == (expected, 30)
        assert [recipe.schedule(epoch, expected) for epoch in (1, expected)] == [1, 1]
        assert recipe.batch_size == plan.recipe.batch_size


def test_whatever_changes_the_first_stage_changes_the_run(command, own) -> None:
    def ids(*overrides: str) -> tuple[str, str]:
        plan = command.plan(*command.tiny, "loss=two", *overrides, config_dir=own)
        return plan.run_id, plan.first_stage.run_id

    plain = ids()
    assert ids() == plain
    for change in ("loss.first_stage.epochs=60", "loss.first_stage.loss.kd_weight=2", "seed=2", "teacher.seed=7"):
        assert all(one != other for one, other in zip(ids(change), plain, strict=True)), change
    only_second = ids("loss.ce_weight=2")
    assert only_second[0] != plain[0]
    assert only_second[1] == plain[1]


def test_a_stage_beside_the_teacher_is_shared_by_all_students(command, own) -> None:
    plans = command.plans(
        *command.tiny, "loss=beside", "student=resnet8,resnet14", "seed=1,2", multirun=True, config_dir=own
    )
    assert len({plan.run_id for plan in plans}) == 4
    (first,) = {plan.first_stage.run_id: plan.first_stage for plan in plans}.values()
    assert first.config["student"] == plans[0].teacher.plan.config["student"]
    assert (first.seed, first.names["student"]) == (0, "resnet20")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.first_stage.epochs=0", "loss.first_stage.epochs must be >= 1, got 0: set loss.first_stage.epochs=1"),
        ("loss.first_stage.epoch=3", "loss.first_stage.epoch is not a key: did you mean 'epochs'?"),
        ("loss.first_stage.network=both", "loss.first_stage.network must be one of student, teacher, got 'both'"),
        ("loss.first_stage.loss.kd_weight=-1", "kd_weight must be >= 0, got -1.0: set loss.first_stage.loss.kd_weight"),
        ("teacher=none", "loss=two needs a teacher: choose teacher=NAME or teacher.run=ID"),
    ],
)
def test_faults(command, own, override: str, sentence: str) -> None:
    assert any(
        told.startswith(sentence) for told in command.refused(*command.tiny, "loss=two", override, config_dir=own)
    )
