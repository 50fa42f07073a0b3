"""`config.yaml` and the copy that makes reading it quick."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.runs.config_file import read_config, write_config

CONFIG: dict[str, Any] = {
    "run_id": "abc",
    "names": {"student": "resnet8"},
    "config": {"recipe": {"epochs": 240}},
    "identity": {"seed": 1},
}


def test_an_edited_config_wins_over_its_copy(tmp_path: Path) -> None:
    path = tmp_path
    write_config(path, CONFIG)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("epochs: 240", "epochs: 7"))
    assert read_config(path)["config"]["recipe"]["epochs"] == 7
    (path / ".config.json").write_text('{"sha256": ')
    assert read_config(path)["config"]["recipe"]["epochs"] == 7
    (path / ".config.json").unlink()
    assert read_config(path)["config"]["recipe"]["epochs"] == 7


def test_the_config_keeps_its_order_and_reads_the_same_with_and_without_its_copy(tmp_path: Path) -> None:
    shared = [1e-5, 1e22, -0.0, True, None, "yes", "1e5", "0123456789", "123456789012"]
    config = CONFIG | {"run_id": "123456789012", "config": {"z": shared, "a": tuple(shared)}}
    write_config(tmp_path, config)
    text = (tmp_path / "config.yaml").read_text()
    assert list(yaml.safe_load(text)) == ["run_id", "names", "config", "identity"]
    assert list(yaml.safe_load(text)["config"]) == ["z", "a"]
    assert "&id" not in text
    quick = read_config(tmp_path)
    (tmp_path / ".config.json").unlink()
    slow = read_config(tmp_path)
    assert json.dumps(slow) == json.dumps(quick)
    assert quick["config"] == {"z": shared, "a": shared}


@pytest.mark.parametrize("value", [object(), {1: 2}, {"x": {1, 2}}, Path("x")])
def test_a_config_of_anything_but_plain_data_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"config\.config.* must be plain data"):
        write_config(tmp_path, {"config": value})
    assert os.listdir(tmp_path) == []
