"""`config.yaml` and the copy that makes reading it quick."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.runs.config_file import read_config, read_shared_config, write_config
from distill.runs.files import StorageError

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


@pytest.mark.parametrize("content", [{}, {"a": {}}, {"a": {"b": {}, "c": {"d": [1, {"e": {}}]}}, "f": None, "g": [{}]}])
def test_a_copy_holds_every_kind_of_value(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG | {"config": content, **content}
    write_config(tmp_path, config)
    monkeypatch.setattr(yaml, "load", pytest.fail)
    assert json.dumps(read_config(tmp_path)) == json.dumps(read_shared_config(tmp_path)) == json.dumps(config)


def test_a_changed_copy_is_not_read(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    copy = tmp_path / ".config.json"
    changed = copy.read_bytes().replace(b'"epochs": 240', b'"epochs": 999')
    assert changed != copy.read_bytes()
    copy.write_bytes(changed)
    assert read_config(tmp_path) == read_shared_config(tmp_path) == CONFIG


@pytest.mark.parametrize(
    "lines",
    [
        [["run_id", "abc"], ["names", {}], ["names", "loss", "kd"]],
        [["names", "loss", "kd"], ["names", {}]],
        [["names", "loss", "kd"], ["names", "loss", "ce"]],
        [["run_id", "abc"], ["run_id", "abd"]],
        [[1, "abc"]],
        [[["run_id"], "abc"]],
        ["ab"],
        [[]],
        [["a", "b", "c", "d"]],
        [{"a": 1}],
        [None],
    ],
)
def test_a_copy_that_another_wrote_is_read_as_config_yaml_says(tmp_path: Path, lines: list[Any]) -> None:
    write_config(tmp_path, CONFIG)
    rest = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    digest = hashlib.sha256((tmp_path / "config.yaml").read_bytes() + rest).hexdigest().encode()
    (tmp_path / ".config.json").write_bytes(digest + b"\n" + rest)
    assert read_config(tmp_path) == read_shared_config(tmp_path) == CONFIG


def test_the_copy_of_an_earlier_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, CONFIG)
    digest = hashlib.sha256((tmp_path / "config.yaml").read_bytes()).hexdigest()
    (tmp_path / ".config.json").write_text(json.dumps({"sha256": digest, "content": CONFIG}))
    monkeypatch.setattr(yaml, "load", pytest.fail)
    assert read_config(tmp_path) == read_shared_config(tmp_path) == CONFIG


@pytest.mark.parametrize("copy", [True, False])
def test_a_shared_identity_is_canonical_and_a_value_of_a_wrong_type_is_named(tmp_path: Path, *, copy: bool) -> None:
    def shared(**changes: Any) -> dict[str, Any]:
        write_config(tmp_path, CONFIG | changes)
        if not copy:
            (tmp_path / ".config.json").unlink()
        return read_shared_config(tmp_path)

    assert shared(identity={"b": 1, "a": {"weight": 0.1 + 0.2}})["identity"] == {"a": {"weight": 0.3}, "b": 1}
    with pytest.raises(StorageError, match=r"config\.yaml is damaged: its key 'identity\.seed' is missing"):
        shared(identity={"seed": "one"})


def test_runs_share_the_parts_of_their_configurations_under_todays_names(tmp_path: Path) -> None:
    loss = {"_target_": "distill.objectives.CrossEntropy", "ce_weight": 1.0}
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        write_config(tmp_path / f"{number}", CONFIG | {"config": {"loss": loss}, "run_id": f"{number}"})
    first, second = (read_shared_config(tmp_path / f"{number}") for number in (1, 2))
    assert first["config"] == {"loss": {"_target_": "distill.losses.CrossEntropy", "ce_weight": 1.0}}
    assert second["config"]["loss"] is first["config"]["loss"]
    assert (first["run_id"], second["run_id"]) == ("1", "2")
    written = [read_config(tmp_path / f"{number}") for number in (1, 2)]
    assert written[0]["config"] == {"loss": loss}  # as it was written, for whoever writes it again
    assert written[1]["config"]["loss"] is not written[0]["config"]["loss"]
