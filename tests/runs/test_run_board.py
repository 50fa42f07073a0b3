"""TensorBoard events: every number once per step, also after a resume, and trouble that stops nobody."""

import logging
from pathlib import Path
from typing import Any

import pytest

from distill.runs.board import Board, flatten


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


def test_hyperparameters_and_the_metrics_they_led_to(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import plugin_data_pb2

    config = {"loss": {"temperature": 4.0, "weights": [0.1, 0.9]}, "flip": True, "teacher": None}
    Board(tmp_path).hparams(config, {"test/accuracy": 91.5})
    content = events(tmp_path).PluginTagToContent("hparams")
    start = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    values = start.session_start_info.hparams
    assert values["loss.temperature"].number_value == 4.0
    assert values["flip"].number_value == 1.0
    assert values["loss.weights"].string_value == "[0.1, 0.9]"
    assert values["teacher"].string_value == "None"
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/experiment"])
    assert [info.name.tag for info in experiment.experiment.metric_infos] == ["test/accuracy"]


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
        board.hparams({"seed": 1}, {})
    assert [record.message for record in caplog.records] == [
        f"TensorBoard events of {tmp_path} are no longer written (no protobuf today); the run goes on"
    ]
