"""TensorBoard events: every number once per step, also after a resume, and trouble that stops nobody."""

import logging
from pathlib import Path
from typing import Any

import pytest

from distill.runs.directory import Board, RunDirectory, flatten


def events(path: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(path))
    accumulator.Reload()
    return accumulator


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(path)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_every_number_of_a_nested_mapping_is_a_scalar(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for step in (1, 2):
        board.scalars({"train": {"loss": 1 / step, "terms": {"kd": 3}}, "name": "x", "flag": True}, step=step)
        board.scalars({"seconds": 0.25}, step=step, prefix="timing/")
    assert scalars(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 0.5)],
        "train/terms/kd": [(1, 3.0), (2, 3.0)],
        "timing/seconds": [(1, 0.25), (2, 0.25)],
    }


def test_a_resumed_session_replaces_the_steps_it_repeats(tmp_path: Path) -> None:
    first = Board(tmp_path)
    for step in (1, 2, 3, 4):
        first.scalars({"loss": step}, step=step)
    second = Board(tmp_path, resume_step=3)
    second.scalars({"loss": 30}, step=3)
    assert scalars(tmp_path) == {"loss": [(1, 1.0), (2, 2.0), (3, 30.0)]}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_process_loses_no_event_and_nothing_stays_open(tmp_path: Path) -> None:
    Board(tmp_path).scalars({"loss": 1.0}, step=1)  # neither flushed nor closed
    assert scalars(tmp_path) == {"loss": [(1, 1.0)]}


def test_a_board_that_is_never_used_writes_nothing(tmp_path: Path) -> None:
    Board(tmp_path, resume_step=3)
    assert list(tmp_path.iterdir()) == []


def test_hyperparameters_of_a_run(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    config = {"loss": {"temperature": 4.0, "weights": [0.1, 0.9]}, "flip": True, "teacher": None}
    Board(tmp_path).hparams(config)
    content = events(tmp_path).PluginTagToContent("hparams")
    start = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    values = start.session_start_info.hparams
    assert values["loss.temperature"].number_value == 4.0
    assert values["flip"].number_value == 1.0
    assert values["loss.weights"].string_value == "[0.1, 0.9]"
    assert values["teacher"].string_value == "None"
    assert "_hparams_/session_end_info" in content


def test_the_runs_of_a_sweep_show_their_values_and_both_accuracies(tmp_path: Path) -> None:
    """As TensorBoard's own HPARAMS page reads the folder of runs, whichever of them it comes upon first."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
    from tensorboard.plugins.hparams.backend_context import Context

    runs: dict[str, tuple[dict[str, Any], str, float]] = {
        "a": ({"ce_weight": 1.0}, "test", 60.0),
        "b": ({"temperature": 2.0}, "holdout", 65.5),
        "c": ({"temperature": 4.0}, "test", 71.25),
    }
    for name, (loss, split, accuracy) in runs.items():
        folder = tmp_path / name
        folder.mkdir()
        run = RunDirectory(folder)
        run.start(config={"run_id": name, "names": {}, "config": {"loss": loss}, "identity": {}}, provenance={})
        run.log_epoch({"epoch": 1, split: {"accuracy": 1.0}})
        run.log_epoch({"epoch": 2, split: {"accuracy": accuracy}, "gradient_norms": {"ce": 0.5, "kd": None}})
        run.finish({"split": split, "last": {"accuracy": accuracy}}, weights={})
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = Context(TBContext(data_provider=provider))
    asked = RequestContext()
    experiment = get_experiment.Handler(asked, context, "", api_pb2.GetExperimentRequest()).run()
    assert "loss.temperature" in {info.name for info in experiment.hparam_infos}
    shown = {info.name.tag for info in experiment.metric_infos}
    assert {"test/accuracy", "holdout/accuracy", "gradient_norms/ce"} <= shown
    assert "gradient_norms/kd" not in shown
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS],
        col_params=[
            api_pb2.ColParams(metric=api_pb2.MetricName(tag=f"{split}/accuracy")) for split in ("test", "holdout")
        ],
        include_metrics=True,
    )
    found = list_session_groups.Handler(asked, context, "", request).run()
    rows = {}
    for group in found.session_groups:
        (session,) = group.sessions
        values = {each.name.tag: each.value for each in session.metric_values}
        rows[session.name] = (group.hparams["loss.temperature"].number_value, values)
    for name, (loss, split, accuracy) in runs.items():
        assert rows[name][0] == loss.get("temperature", 0.0)
        assert rows[name][1][f"{split}/accuracy"] == accuracy


def test_flatten_joins_keys_and_turns_what_is_no_scalar_into_text() -> None:
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [1, 2], "f": True}
    assert flatten(nested, separator="/") == {"a/b": 1, "a/c/d": "None", "e": "[1, 2]", "f": True}


def test_trouble_is_told_once_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Board, *events: object) -> None:
        raise RuntimeError("no protobuf today")

    monkeypatch.setattr(Board, "_write", broken)
    board = Board(tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            board.scalars({"loss": 1.0}, step=step)
        board.hparams({"seed": 1})
    assert [record.message for record in caplog.records] == [
        f"TensorBoard events of {tmp_path} are no longer written (no protobuf today); the run goes on"
    ]
