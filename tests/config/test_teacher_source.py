"""`teacher.source`: what it may be, which run it belongs to, and what a command asks of its teachers."""

import torch

from distill.config.plan import teacher_epochs_of, teacher_use
from distill.runs.directory import RunDirectory

MEASURED = {"epoch": 1, "correct": 5, "count": 10, "accuracy": 50.0, "loss": 1.0}


def finish(plan, *, source: str | None) -> None:
    """A finished run by hand."""
    directory = RunDirectory(plan.directory)
    config = {"run_id": plan.run_id, "names": plan.names, "config": plan.config, "identity": plan.identity}
    directory.start(config=config, provenance={})
    result = {"seconds": 1.0, "parameters": 1, "epochs": 1, "split": "test", "last": MEASURED, "best": MEASURED}
    teacher = {"source": source, "weights_sha256": "w"}
    directory.finish(result | {"precision": "fp32", "classes": 10, "teacher": teacher}, weights={"w": torch.zeros(1)})


def test_it_is_no_part_of_what_a_run_is(command) -> None:
    plans = [command.plan(*command.tiny, f"teacher.source={source}") for source in ("live", "table", "auto")]
    assert len({plan.run_id for plan in plans}) == 1
    assert [plan.config["teacher"]["source"] for plan in plans] == ["live", "table", "auto"]
    assert command.plan(*command.tiny).config["teacher"]["source"] == "auto"
    assert len({str(plan.names) for plan in plans}) == 1


def test_a_misspelt_source_is_a_sentence(command) -> None:
    (sentence,) = command.refused(*command.tiny, "teacher.source=tabel")
    assert sentence.startswith("teacher.source must be ")


def test_a_table_pinned_for_what_reads_more_than_logits_is_refused(command) -> None:
    (sentence,) = command.refused(*command.tiny, "loss=fitnet", "teacher=resnet8", "teacher.source=table")
    assert sentence == (
        "teacher.source=table cannot serve loss=fitnet: it uses the teacher's features, and a table has its "
        "logits only; "
        "set teacher.source=live or auto"
    )
    (sentence,) = command.refused(*command.tiny, "loss=mlkd", "teacher.source=table")
    assert "cannot serve loss=mlkd: the strong view is random, so it is not in the table" in sentence
    assert command.plan(*command.tiny, "loss=ce", "teacher.source=table").teacher is None


def test_a_finished_run_is_not_taken_for_one_of_another_source(command, tmp_path) -> None:
    words = (*command.tiny, f"runs_dir={tmp_path / 'store'}")
    plan = command.plan(*words)
    finish(plan, source="table")
    (sentence,) = command.refused(*words, "teacher.source=live")
    assert sentence.startswith(f"teacher.source=live, but the finished run {plan.directory} has source table: ")
    assert sentence.endswith("repeat it under another runs_dir")
    for same in ("table", "auto"):
        assert command.plan(*words, f"teacher.source={same}").run_id == plan.run_id


def test_a_command_asks_a_teacher_for_the_epochs_of_its_streams(command) -> None:
    def asked(*words: str, together: bool) -> list[int]:
        plans = command.plans(*command.tiny, "recipe.epochs=5", *words, multirun=True)
        return sorted(teacher_epochs_of([plans] if together else [[plan] for plan in plans]).values())

    assert asked("seed=1,2", "loss=kd,zscore_kd,ce", together=False) == [20]
    assert asked("seed=1,2", "loss=kd,zscore_kd,ce", together=True) == [10]
    assert asked("teacher=resnet8,resnet14", together=True) == [5, 5]
    assert asked("loss=fitnet,kd", "teacher=resnet8", together=False) == [5]  # a table is no use to the first


def test_runs_share_a_table_where_teacher_precision_and_data_are_one(command) -> None:
    use = teacher_use(command.plan(*command.tiny))
    for same in ("loss=zscore_kd", "seed=5", "student=resnet14", "recipe.epochs=3"):
        words = (*command.tiny, "teacher.recipe.epochs=10", same)
        assert teacher_use(command.plan(*words)) == teacher_use(command.plan(*words[:-1])), same
    for other in ("teacher=resnet14", "teacher.precision=bf16", "dataset.pad=2", "dataset.holdout=10"):
        assert teacher_use(command.plan(*command.tiny, other)) != use, other
