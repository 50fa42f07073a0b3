"""`teacher.run=ID`: any finished run as the teacher."""

import pytest
import torch

from distill.runs.directory import RunDirectory


def start_run(plan) -> RunDirectory:
    """The folder of a planned run."""
    directory = RunDirectory(plan.directory)
    config = {"run_id": plan.run_id, "names": plan.names, "config": plan.config, "identity": plan.identity}
    directory.start(config=config, provenance={})
    return directory


def test_a_finished_teacher_must_tell_the_same_classes_apart(command, tmp_path) -> None:
    data = ("dataset=synthetic", "dataset.classes=100", f"runs_dir={tmp_path / 'store'}")
    run = command.plan(*data, "loss=ce")
    measured = {"epoch": 1, "correct": 5, "count": 10, "accuracy": 50.0, "loss": 1.0}
    result = {"seconds": 1.0, "parameters": 1, "epochs": 1, "split": "test", "last": measured, "best": measured}
    weights = {"w": torch.zeros(1)}
    done = start_run(run).finish(result | {"precision": "fp32", "classes": 100, "teacher": None}, weights=weights)

    named = f"teacher.run={run.run_id[:6]}"
    (sentence,) = command.refused(*data, "dataset.classes=10", named)
    assert sentence == (f"{named} has 100 classes, the data set has 10: choose a teacher trained on this data set")
    plan = command.plan(*data, named)
    assert plan.identity["teacher"] == {"weights": done["weights_sha256"]}
    assert plan.names["teacher"] == "resnet8"
    assert plan.run_id != command.plan(*data).run_id
    assert command.plan(*data, f"teacher.run={run.directory}").run_id == plan.run_id
    assert command.plan(*data, named, "teacher=none").run_id == plan.run_id
    assert command.plan(*data, named, "teacher.precision=fp32").run_id == plan.run_id
    other = command.plan(*data, named, "teacher.precision=bf16")
    assert other.identity["teacher"] == {"weights": done["weights_sha256"], "precision": "bf16"}
    assert command.plan(*data, named, "precision=bf16").identity["teacher"] == plan.identity["teacher"]
    assert command.plan(*data, named, "loss=ce").run_id == run.run_id


def test_an_unfinished_teacher_is_refused(command, tmp_path) -> None:
    store = f"runs_dir={tmp_path / 'store'}"
    run = command.plan(*command.tiny, store, "loss=ce")
    start_run(run)
    (sentence,) = command.refused(*command.tiny, store, f"teacher.run={run.run_id}")
    assert sentence.startswith("teacher.run: ")
    assert "is unfinished, not finished: type its command again" in sentence


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("teacher.run=[a,b]", "teacher.run must be text or null, got ['a', 'b']"),
        ("teacher.run=", "teacher.run= is empty (an unset variable?): give it a value, or leave it out"),
        ("teacher.run=../w.pth", "teacher.run=../w.pth is a file, not a run: `distill import ../w.pth student=NAME "),
    ],
)
def test_what_is_no_run_is_one_sentence(command, tmp_path, named: str, sentence: str) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    (found,) = command.refused(*command.tiny, named)
    assert found.startswith(sentence)


def test_a_file_that_is_not_there_leads_to_import(command) -> None:
    (found,) = command.refused(*command.tiny, "teacher.run=foo.pth")
    assert found.endswith("; `distill import FILE` makes a run of a file of weights")


@pytest.mark.parametrize("key", ["teacher.weights", "teacher.pretrained", "runs_dir", "dataset.npz", "recipe.epochs"])
def test_a_value_left_empty_by_an_unset_variable_is_refused(command, key: str) -> None:
    assert command.refused(*command.tiny, f"{key}=") == [
        f"{key}= is empty (an unset variable?): give it a value, or leave it out"
    ]
